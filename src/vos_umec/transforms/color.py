"""Normalised RGB to Lab and back, for objectives that alter colors and encoders that read Lab."""

import torch
from kornia.color import linear_rgb_to_rgb, rgb_to_lab, rgb_to_linear_rgb, xyz_to_rgb
from torch import Tensor

from vos_umec.constants import IMAGENET_MEAN, IMAGENET_STD

_CENTRE = (50.0, 0.0, 0.0)
_SPAN = (50.0, 127.0, 127.0)  # L, a, b to about -1 to 1
_WHITE = (0.95047, 1.0, 1.08883)  # X, Y, Z of D65
_LINEAR_SLOPE = 12.92  # of the linear part of sRGB, which kornia extends below 0
_LINEAR_LIMIT = 0.008856  # part of white below which CIE's cube root becomes a straight line


def to_lab(frames: Tensor) -> Tensor:
    """L, a and b (D65) of normalised frames, each scaled to about -1 to 1: (L - 50) / 50, a / 127, b / 127.

    Altered pictures may have negative R, G or B. There the sRGB curve is mirrored at 0: kornia's straight line
    would turn a linear value of -1 into -13, an outlier that dominates the input of a network.

    Args:
        frames: RGB normalised with ImageNet's mean and deviation (..., 3, H, W).

    Returns:
        L, a, b (..., 3, H, W), computed in fp32 or above, in the type of the frames.
    """
    with torch.autocast(frames.device.type, enabled=False):  # or kornia's matrix products would run in bf16
        x = frames.to(torch.promote_types(frames.dtype, torch.float32))
        rgb = x * _column(IMAGENET_STD, x) + _column(IMAGENET_MEAN, x)
        rgb = torch.where(rgb < 0, -_LINEAR_SLOPE * rgb_to_linear_rgb(-rgb), rgb)
        lab: Tensor = (rgb_to_lab(rgb) - _column(_CENTRE, x)) / _column(_SPAN, x)
    return lab.to(frames.dtype)


def from_lab(lab: Tensor) -> Tensor:
    """The inverse of `to_lab`, without clamping: altered colors may lie outside RGB.

    kornia's own inverse clamps dark yellows, which appear when contrast is increased. So the step from Lab to XYZ
    is written out here with CIE's formula; kornia does the rest.

    Args:
        lab: L, a, b as `to_lab` returns them (..., 3, H, W).

    Returns:
        RGB normalised with ImageNet's mean and deviation (..., 3, H, W), in the type of `lab`.
    """
    with torch.autocast(lab.device.type, enabled=False):
        x = lab.to(torch.promote_types(lab.dtype, torch.float32))
        L, a, b = (x * _column(_SPAN, x) + _column(_CENTRE, x)).unbind(-3)  # (..., H, W) each
        y = (L + 16) / 116
        root = torch.stack((y + a / 500, y, y - b / 200), dim=-3)
        ratio = torch.where(root > _LINEAR_LIMIT ** (1 / 3), root**3, (root - 4 / 29) / 7.787)
        linear = xyz_to_rgb(ratio * _column(_WHITE, x))
        rgb = linear.sign() * linear_rgb_to_rgb(linear.abs())
        frames: Tensor = (rgb - _column(IMAGENET_MEAN, x)) / _column(IMAGENET_STD, x)
    return frames.to(lab.dtype)


def _column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
