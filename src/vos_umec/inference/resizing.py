"""How frames and masks pass between a video's own size, the working size and the grid of cells."""

from typing import Any, Literal, get_args

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.io.frames import resized
from vos_umec.transforms.augment import normalize

Fit = Literal["pad", "native"] | int
MaskSampling = Literal["area", "bilinear", "aligned", "nearest"]

_MODES: dict[str, dict[str, Any]] = {
    "area": {"mode": "area"},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "aligned": {"mode": "bilinear", "align_corners": True},
    "nearest": {"mode": "nearest-exact"},
}


class Resizing:
    """The sizes of a segmenter: the video's own (H, W), the working size (H', W') and the grid (h, w).

    Args:
        stride: s, pixels to a side of a cell.
        short_side: Short side of the working size; None for the video's own.
        fit: How sides that are no multiples of the stride are met, see VideoSegmenter.
        mask_sampling: How masks are resized, see VideoSegmenter.

    Raises:
        ConfigError: If a setting is unknown or out of its range.
    """

    def __init__(self, stride: int, short_side: int | None, fit: Fit, mask_sampling: MaskSampling) -> None:
        if not (fit in ("pad", "native") or (isinstance(fit, int) and fit > 0 and fit % stride == 0)):
            raise ConfigError(
                f"fit must be 'pad', 'native' or a number of pixels that is a multiple of the stride {stride}; "
                f"found {fit!r}"
            )
        if short_side is not None and not (isinstance(short_side, int) and short_side > 0):
            raise ConfigError(f"short_side must be a whole number of pixels above 0, or None; found {short_side!r}")
        if mask_sampling not in _MODES:
            raise ConfigError(
                f"mask_sampling must be one of {', '.join(get_args(MaskSampling))}; found {mask_sampling!r}"
            )
        self.stride = stride
        self.short_side = short_side
        self.fit = fit
        self.nearest = mask_sampling == "nearest"
        self._down = _MODES[mask_sampling]
        self._up = _MODES["aligned" if mask_sampling == "aligned" else "bilinear"]

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H', W') of a video of size (H, W), without what is padded."""
        if not isinstance(self.fit, int):
            return resized(size, self.short_side)
        shorter, longer = sorted(size)
        short = shorter if self.short_side is None else self.short_side
        long = max(1, short * longer // (shorter * self.fit)) * self.fit
        short = max(1, short // self.stride) * self.stride
        return (short, long) if size[0] <= size[1] else (long, short)

    def frame(self, pixels: Tensor) -> Tensor:
        """A frame (1, 3, H, W) uint8 as the encoder takes it: resized, normalised, padded (1, 3, H', W')."""
        if not isinstance(self.fit, int):
            return self._to_working_size(normalize(pixels))
        size = self.working_size((pixels.shape[-2], pixels.shape[-1]))
        if size != pixels.shape[-2:]:  # in 8 bits and without antialiasing, as OpenCV resizes
            pixels = F.interpolate(pixels.float(), size=size, **_MODES["bilinear"]).round().to(pixels.dtype)
        return normalize(pixels)

    def require_cells(self, grid: tuple[int, int], image: Tensor) -> None:
        """Raise ConfigError if the encoder made a grid of another size of a frame (1, 3, H', W')."""
        wanted = tuple(-(-side // self.stride) for side in image.shape[-2:])
        if grid != wanted:
            raise ConfigError(
                f"the encoder gives {grid[0]} x {grid[1]} cells where a frame of {image.shape[-2]} x "
                f"{image.shape[-1]} pixels has {wanted[0]} x {wanted[1]}; give fit='pad'"
            )

    def prompt(self, masks: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Masks (K, H, W) of a prompt at the working size, padded (K, H', W'), and on the grid (K, h, w)."""
        working = self._to_working_size(masks[None])[0]
        # Where frames are scaled to fit, the grid spans the video, so that one step leads from one to the other.
        return working, self.to_grid(masks if isinstance(self.fit, int) else working, grid)

    def to_grid(self, masks: Tensor, grid: tuple[int, int]) -> Tensor:
        """Masks (K, H', W') on the grid (K, h, w)."""
        return F.interpolate(masks[None], size=grid, **self._down)[0]

    def enlarge(self, masks: Tensor, size: tuple[int, int]) -> Tensor:
        """Masks (K, h, w) on the grid at a larger size (K, H', W')."""
        return F.interpolate(masks[None], size=size, **self._up)[0]

    def restore(self, masks: Tensor, size: tuple[int, int]) -> Tensor:
        """Masks (K, H', W') without what was padded, and at the video's own size unless by nearest pixels."""
        height, width = self.working_size(size)
        masks = masks[:, :height, :width]
        return masks if self.nearest or (height, width) == size else self.enlarge(masks, size)

    def _to_working_size(self, x: Tensor) -> Tensor:
        """Frames and masks alike, or a frame would show an object where its mask has none."""
        size = self.working_size((x.shape[-2], x.shape[-1]))
        if size != x.shape[-2:]:
            x = F.interpolate(x, size=size, **_MODES["bilinear"], antialias=True)
        if self.fit != "pad":
            return x
        return F.pad(x, (0, -size[1] % self.stride, 0, -size[0] % self.stride), mode="replicate")


def resize_nearest(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ids (..., h, w) uint8, or values float32, at another size (..., H, W), each pixel from the nearest one."""
    planes = ids.reshape(-1, *ids.shape[-2:])
    found = [np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.NEAREST)) for plane in planes]
    return np.stack(found).reshape(*ids.shape[:-2], *size)
