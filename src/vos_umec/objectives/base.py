"""The interface of correspondence objectives: the clips they get, the losses they return."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import cast

from torch import Tensor, nn

from vos_umec.distributed import on_any_rank
from vos_umec.errors import ConfigError
from vos_umec.models.encoder import Features


class EncodedClip:
    """A batch of clips with the encoder E. All frames are encoded on first use, once for all objectives.

    Args:
        encoder: E, a module that takes frames (n, 3, H, W) to `Features`.
        frames: Normalized frames (B, T, 3, H, W).
        frame_indices: Number of each frame in its video (B, T).

    Raises:
        ConfigError: If the shapes do not fit each other.
    """

    def __init__(self, encoder: nn.Module, frames: Tensor, frame_indices: Tensor) -> None:
        if frames.dim() != 5 or frames.shape[2] != 3 or frame_indices.shape != frames.shape[:2]:
            raise ConfigError(
                f"a clip has frames {tuple(frames.shape)} and frame indices {tuple(frame_indices.shape)}; "
                "expected (B, T, 3, H, W) and (B, T)"
            )
        self.encoder = encoder
        self.frames = frames
        self.frame_indices = frame_indices

    def require_frames(self, least: int, objective: str) -> tuple[int, int]:
        """(B, T), the number of clips and their length; ConfigError, with the objective's name, if T < `least`."""
        B, T = self.frame_indices.shape
        if least > T:
            raise ConfigError(
                f"{objective} needs clips of {least} frames or more; found {T}. Raise the data module's clip_length"
            )
        return B, T

    def encode(self, frames: Tensor) -> Features:
        """E's features of any normalized frames (n, 3, H, W), such as transformed ones."""
        return cast(Features, self.encoder(frames))

    @cached_property
    def features(self) -> Features:
        """E's features of all frames (B*T, ...), the T frames of a clip next to each other."""
        return self.encode(self.frames.flatten(0, 1))

    def features_of(self, chosen: Tensor) -> Features:
        """E's features of some frames, by their places among the B*T (n,); no others are encoded for it."""
        if "features" in self.__dict__:
            return self.features[chosen]
        return self.encode(self.frames.flatten(0, 1)[chosen])

    @property
    def keys(self) -> Tensor:
        """Unit-norm keys of all frames (B, T, D, h, w)."""
        keys: Tensor = self.features.key.unflatten(0, tuple(self.frames.shape[:2]))
        return keys


class CorrespondenceObjective(nn.Module, ABC):
    """A loss that teaches E correspondence from unlabeled clips. Any subclass can be named in a configuration.

    Example:
        >>> class Stillness(CorrespondenceObjective):
        ...     def forward(self, clip):
        ...         return {"loss": (clip.keys[:, 1:] - clip.keys[:, :-1]).square().mean()}
        >>> import torch
        >>> from vos_umec.models.encoder import ResNetEncoder
        >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> frames = torch.rand(1, 1, 3, 32, 32).expand(1, 2, 3, 32, 32)
        >>> Stillness()(EncodedClip(E, frames, torch.arange(2)[None]))["loss"].item()
        0.0
    """

    @abstractmethod
    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss of a batch of clips.

        Args:
            clip: The clips with their encoder.

        Returns:
            "loss", the scalar to minimize, and further named scalars to log, which may be detached.
        """

    def pair_gaps(self, frame_indices: Tensor) -> dict[str, Tensor]:
        """Distances of the pairs of frames that each term can learn from. Override it where not all pairs will do.

        Args:
            frame_indices: Number of each frame in its video (B, T).

        Returns:
            By the name of the term, |t - t'| of its pairs in frames of the video (n,). Here all pairs of two
            different frames of a clip, as one term.
        """
        gaps = (frame_indices[:, :, None] - frame_indices[:, None, :]).abs().triu()  # (B, T, T), each pair once
        return {"all terms": gaps[gaps > 0]}

    def describe_pairs(self, frame_indices: Tensor) -> str:
        """How far apart the frames are that each term pairs, in one line; refuses a term without a pair.

        Every rank calls it with its clips (B, T), before the first step of a training.

        Raises:
            ConfigError: A term has no pair in the clips of any rank, so it would be 0.
        """
        terms = self.pair_gaps(frame_indices)
        every = CorrespondenceObjective.pair_gaps(self, frame_indices)["all terms"]
        for term, gaps in terms.items():
            if not on_any_rank(len(gaps) > 0, frame_indices.device):
                raise ConfigError(
                    f"{type(self).__name__}: the first batch has no pair of frames for {term}: its clips have "
                    f"{_spread(every)}. Sample other clips (data.gap, data.run_length, data.run_gap), or give the "
                    "term weight 0"
                )
        return f"{type(self).__name__}: " + "; ".join(
            f"{_spread(gaps)}, for {term}" for term, gaps in terms.items()
        )


def _spread(gaps: Tensor) -> str:
    """What a message says of pairs at distances (n,).

    Example:
        >>> import torch
        >>> _spread(torch.tensor([1, 1, 30]))
        '3 pairs 1 to 30 frames apart (median 1)'
    """
    if not len(gaps):
        return "no pairs"
    return f"{len(gaps)} pairs {gaps.min():g} to {gaps.max():g} frames apart (median {gaps.median():g})"
