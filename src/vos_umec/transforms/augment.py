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
    mean, std = (torch.tensor(v, device=frames.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return frames.float().sub_(255 * mean).div_(255 * std)  # in place, because a batch is large


class ClipAugment:
    """Random crop, resize and flip of a batch of clips, the same for all frames of a clip; then normalisation.

    Args:
        crop: Side of the result in pixels.
        scale: Smallest and largest part of the side that is cut out, within (0, 1].
        each_frame: Crop each frame anew, its segments with it; the flip is still that of the clip.
    """

    def __init__(self, crop: int = 256, scale: Sequence[float] = (0.8, 1.0), each_frame: bool = False) -> None:
        self.crop = crop
        self.scale = scale
        self.each_frame = each_frame

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Augment one batch on its device, and return a new dictionary.

        `frames` (B, T, 3, S, S) uint8 become (B, T, 3, crop, crop) float32 normalised. `segments` (B, T, S, S)
        uint8, if any, become (B, T, crop, crop) with the nearest pixel. Other entries stay as they are.
        """
        frames = batch["frames"]  # (B, T, 3, S, S)
        B, T, _, S, _ = frames.shape
        size, output = (S, S), (self.crop, self.crop)
        if self.each_frame:  # a clip of one frame for each
            crops = GeometricTransform.sample(B * T, size, output, self.scale, flip=0.0).matrix
            flips = GeometricTransform.sample(B, output, scale=(1.0, 1.0)).matrix.repeat_interleave(T, dim=0)
            phi = GeometricTransform((flips @ crops).to(frames.device), size, output)
        else:
            phi = GeometricTransform.sample(B, size, output, self.scale, device=frames.device)
        clips = phi.matrix.shape[0]
        cut = phi.apply_image(normalize(frames).view(clips, -1, 3, S, S))
        augmented = {**batch, "frames": cut.view(B, T, 3, *output)}
        if "segments" in batch:
            cut = phi.apply_mask(batch["segments"].view(clips, -1, S, S))
            augmented["segments"] = cut.view(B, T, *output)
        return augmented
