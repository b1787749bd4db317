"""What every correspondence objective is given, and what it gives back."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import cast

from torch import Tensor, nn

from vos_umec.errors import ConfigError
from vos_umec.models.encoder import Features


class EncodedClip:
    """A batch of clips beside the encoder E; E's features of all frames are computed on first use and shared.

    Args:
        encoder: E, a module that takes frames (n, 3, H, W) to `Features`.
        frames: Normalised frames (B, T, 3, H, W).
        frame_indices: Place of each frame in its video (B, T), in raw frames.

    Raises:
        ConfigError: When the shapes do not fit each other.

    Example:
        >>> import torch
        >>> from vos_umec.models.encoder import ResNetEncoder
        >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> clip = EncodedClip(E, torch.rand(2, 3, 3, 32, 32), torch.arange(3).expand(2, 3))
        >>> tuple(clip.keys.shape), clip.features is clip.features
        ((2, 3, 16, 8, 8), True)
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

    def encode(self, frames: Tensor) -> Features:
        """E's features of any frames, such as transformed ones.

        Args:
            frames: Normalised frames (n, 3, H, W).

        Returns:
            Features of n frames.

        Example:
            >>> import torch
            >>> from vos_umec.models.encoder import ResNetEncoder
            >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
            >>> clip = EncodedClip(E, torch.rand(1, 2, 3, 32, 32), torch.arange(2)[None])
            >>> tuple(clip.encode(clip.frames[:, 0].flip(-1)).key.shape)
            (1, 16, 8, 8)
        """
        return cast(Features, self.encoder(frames))

    @cached_property
    def features(self) -> Features:
        """E's features of all frames, the T frames of a clip next to each other: (B*T, ...)."""
        return self.encode(self.frames.flatten(0, 1))

    @property
    def keys(self) -> Tensor:
        """Unit-norm keys of all frames (B, T, D, h, w)."""
        B, T = self.frames.shape[:2]
        keys: Tensor = self.features.key.unflatten(0, (B, T))
        return keys


class CorrespondenceObjective(nn.Module, ABC):
    """A loss that teaches E correspondence from unlabelled clips; any subclass plugs into training.

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
            clip: The clips and their keys.

        Returns:
            "loss", the weighted scalar to minimise, and named scalars to log, which may be detached.
        """
