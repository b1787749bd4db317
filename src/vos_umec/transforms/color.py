"""Normalised RGB to Lab and back, for objectives that hide colors and encoders that see Lab."""

import torch
from kornia.color import linear_rgb_to_rgb, rgb_to_lab, rgb_to_linear_rgb, xyz_to_rgb
from torch import Tensor

from vos_umec.constants import IMAGENET_MEAN, IMAGENET_STD

_CENTRE = (50.0, 0.0, 0.0)
_SPAN = (50.0, 127.0, 127.0)  # L, a, b to about -1 to 1
_WHITE = (0.95047, 1.0, 1.08883)  # X, Y, Z of D65
_STRAIGHT = 12.92  # slope of sRGB's straight piece, along which kornia goes on below 0
_DARK = 0.008856  # share of white up to which CIE's cube root gives way to a straight line


def to_lab(frames: Tensor) -> Tensor:
    """L, a and b of normalised frames, each on about the unit range: (L - 50) / 50, a / 127, b / 127.

    D65, as kornia has it. Below R, G or B = 0, where only altered pictures lie, the sRGB curve goes on as its own
    mirror image, for kornia's straight line takes the linear -1 to -13, an outlier that drowns a network's input.

    Args:
        frames: RGB normalised with ImageNet's mean and deviation (..., 3, H, W).

    Returns:
        L, a, b (..., 3, H, W), computed in fp32 at least, in the type of the frames.

    Example:
        >>> black_to_white = torch.stack([from_lab(torch.tensor([v, 0, 0]).view(3, 1, 1)) for v in (-1.0, 1.0)])
        >>> to_lab(black_to_white)[:, 0].flatten().round(decimals=3).tolist()
        [-1.0, 1.0]
    """
    with torch.autocast(frames.device.type, enabled=False):  # kornia's matrix products would follow it to bf16
        x = frames.to(torch.promote_types(frames.dtype, torch.float32))
        rgb = x * _column(IMAGENET_STD, x) + _column(IMAGENET_MEAN, x)
        rgb = torch.where(rgb < 0, -_STRAIGHT * rgb_to_linear_rgb(-rgb), rgb)
        lab: Tensor = (rgb_to_lab(rgb) - _column(_CENTRE, x)) / _column(_SPAN, x)
    return lab.to(frames.dtype)


def from_lab(lab: Tensor) -> Tensor:
    """The inverse of `to_lab`, nothing clamped: altered colors may lie outside what RGB can show.

    kornia's own way back clamps dark yellows, which a picture of more contrast has; so the step from Lab to XYZ is
    CIE's formula written out, and the rest kornia's.

    Args:
        lab: L, a, b as `to_lab` gives them (..., 3, H, W), of any size.

    Returns:
        RGB normalised with ImageNet's mean and deviation (..., 3, H, W), in the type of `lab`.

    Example:
        >>> frames = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(from_lab(to_lab(frames)), frames, atol=1e-4)
        True
    """
    with torch.autocast(lab.device.type, enabled=False):
        x = lab.to(torch.promote_types(lab.dtype, torch.float32))
        L, a, b = (x * _column(_SPAN, x) + _column(_CENTRE, x)).unbind(-3)  # (..., H, W) each
        y = (L + 16) / 116
        root = torch.stack((y + a / 500, y, y - b / 200), dim=-3)
        ratio = torch.where(root > _DARK ** (1 / 3), root**3, (root - 4 / 29) / 7.787)
        linear = xyz_to_rgb(ratio * _column(_WHITE, x))
        rgb = linear.sign() * linear_rgb_to_rgb(linear.abs())
        frames: Tensor = (rgb - _column(IMAGENET_MEAN, x)) / _column(IMAGENET_STD, x)
    return frames.to(lab.dtype)


def _column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
