"""Augmentation of batches on the device, and the normalisation that every network input goes through."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vos_umec.constants import IMAGENET_MEAN, IMAGENET_STD
from vos_umec.errors import ConfigError
from vos_umec.transforms.geometric import GeometricTransform


def normalize(frames: Tensor) -> Tensor:
    """Turn bytes into network input: (x / 255 - mean) / std, with the mean and deviation of ImageNet per channel.

    Args:
        frames: (..., 3, H, W) uint8 RGB.

    Returns:
        (..., 3, H, W) float32 on the same device, about -2.1 to 2.6.

    Raises:
        ConfigError: The frames are not uint8 RGB.

    Example:
        >>> white = normalize(torch.full((3, 1, 1), 255, dtype=torch.uint8))
        >>> [round(value, 3) for value in white.flatten().tolist()]
        [2.249, 2.429, 2.64]
    """
    if frames.dtype != torch.uint8 or frames.dim() < 3 or frames.shape[-3] != 3:
        raise ConfigError(f"frames are {tuple(frames.shape)} {frames.dtype}; expected (..., 3, H, W) uint8 RGB")
    mean, std = (  # sent without waiting for the device
        torch.tensor(v)[:, None, None].to(frames.device, non_blocking=True) for v in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return frames.float().sub_(255 * mean).div_(255 * std)  # in place, because a batch is large


class ClipAugment:
    """Random crop, resize and flip of a batch of clips, the same for all frames of a clip; then normalisation.

    Args:
        crop: Side of the result in pixels.
        scale: Smallest and largest part of the side that is cut out, within (0, 1].
    """

    def __init__(self, crop: int = 256, scale: Sequence[float] = (0.8, 1.0)) -> None:
        self.crop = crop
        self.scale = scale

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Augment one batch on its device, and return a new dictionary.

        `frames` (B, T, 3, S, S) uint8 become (B, T, 3, crop, crop) float32 normalised. `segments` (B, T, S, S)
        uint8, if any, become (B, T, crop, crop) with the nearest pixel. Other entries stay as they are.
        """
        frames = batch["frames"]  # (B, T, 3, S, S)
        B, _, _, S, _ = frames.shape
        phi = GeometricTransform.sample(B, (S, S), (self.crop, self.crop), self.scale, device=frames.device)
        augmented = {**batch, "frames": phi.apply_image(normalize(frames))}  # (B, T, 3, crop, crop)
        if "segments" in batch:
            augmented["segments"] = phi.apply_mask(batch["segments"])  # (B, T, crop, crop)
        return augmented
