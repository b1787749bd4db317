"""Normalised RGB to Lab and back, for objectives that alter colors and encoders that read Lab.

Written out here, and not taken from kornia: its conversions make their constants on the device of the frames, and a
GPU then has to finish all earlier work at each of them.
"""

import numpy as np
import torch
from torch import Tensor

from vos_umec.constants import IMAGENET_MEAN, IMAGENET_STD

_WHITE = np.array([0.95047, 1.0, 1.08883])  # X, Y, Z of D65
_RGB_TO_XYZ = np.array(  # of linear RGB, D65
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_TO_RATIO = _RGB_TO_XYZ / _WHITE[:, None]  # linear RGB to X, Y and Z as parts of white
_SPAN = np.array([50.0, 127.0, 127.0])  # L, a, b to about -1 to 1
_TO_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]]) / _SPAN[:, None]  # of the roots of those parts
_LAB_SHIFT = np.array([-16.0 - 50.0, 0.0, 0.0]) / _SPAN
_LINEAR_LIMIT = 0.008856  # part of white below which CIE's cube root becomes a straight line


def to_lab(frames: Tensor) -> Tensor:
    """L, a and b (D65) of normalised frames, each scaled to about -1 to 1: (L - 50) / 50, a / 127, b / 127.

    Altered pictures may have negative R, G or B. There the sRGB curve is mirrored at 0: its straight line would
    turn a linear value of -1 into -13, an outlier that dominates the input of a network.

    Args:
        frames: RGB normalised with ImageNet's mean and deviation (..., 3, H, W).

    Returns:
        L, a, b (..., 3, H, W), computed in fp32 or above, in the type of the frames.
    """
    with torch.autocast(frames.device.type, enabled=False):  # or products would be in bf16
        x = frames.to(torch.promote_types(frames.dtype, torch.float32))
        rgb = torch.addcmul(_constant(IMAGENET_MEAN, x), x, _constant(IMAGENET_STD, x))
        size = rgb.abs()
        linear = torch.where(size > 0.04045, ((size + 0.055) / 1.055) ** 2.4, size / 12.92).copysign(rgb)
        ratio = _mixed(_TO_RATIO, linear)
        root = torch.where(ratio > _LINEAR_LIMIT, ratio.clamp(min=_LINEAR_LIMIT) ** (1 / 3), 7.787 * ratio + 4 / 29)
        lab = _mixed(_TO_LAB, root) + _constant(_LAB_SHIFT, x)
    return lab.to(frames.dtype)


def from_lab(lab: Tensor) -> Tensor:
    """The inverse of `to_lab`, without clamping: altered colors may lie outside RGB.

    Args:
        lab: L, a, b as `to_lab` returns them (..., 3, H, W).

    Returns:
        RGB normalised with ImageNet's mean and deviation (..., 3, H, W), in the type of `lab`.
    """
    with torch.autocast(lab.device.type, enabled=False):
        x = lab.to(torch.promote_types(lab.dtype, torch.float32))
        root = _mixed(np.linalg.inv(_TO_LAB), x - _constant(_LAB_SHIFT, x))
        ratio = torch.where(root > _LINEAR_LIMIT ** (1 / 3), root**3, (root - 4 / 29) / 7.787)
        linear = _mixed(np.linalg.inv(_TO_RATIO), ratio)
        size = linear.abs()
        curved = 1.055 * size.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
        rgb = torch.where(size > 0.0031308, curved, 12.92 * size).copysign(linear)
        frames = (rgb - _constant(IMAGENET_MEAN, x)) / _constant(IMAGENET_STD, x)
    return frames.to(lab.dtype)


def _mixed(matrix: np.ndarray, x: Tensor) -> Tensor:
    """A matrix (3, 3) applied to the channels of maps (..., 3, H, W)."""
    weight = torch.tensor(matrix, dtype=x.dtype).to(x.device, non_blocking=True)
    mixed: Tensor = (weight @ x.flatten(-2)).unflatten(-1, x.shape[-2:])
    return mixed


def _constant(values: np.ndarray | tuple[float, ...], x: Tensor) -> Tensor:
    """Three numbers for the channels of maps (..., 3, H, W), sent to their device without waiting for it."""
    return torch.tensor(values, dtype=x.dtype)[:, None, None].to(x.device, non_blocking=True)
