"""The interface of correspondence objectives: the clips they get, the losses they return."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import cast

from torch import Tensor, nn

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
