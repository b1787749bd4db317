"""Windows around objects: where the frame-mask encoder and the decoder need to look."""

from dataclasses import dataclass

from torch import Tensor

_SEEN = (
    0.25  # a cell with less of an object than this does not stretch its window: top-k leaks a tenth here and there
)
_STEP = 4  # sides are multiples of so many cells, so that objects of like size share one batch


@dataclass(frozen=True)
class Window:
    """A rectangle of the feature grid, in cells.

    Attributes:
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
    """

    top: int
    left: int
    height: int
    width: int

    def cut(self, x: Tensor, h: int) -> Tensor:
        """The window's part of a map (..., H, W) that has H / h pixels to a side of a cell (a view).

        Example:
            >>> import torch
            >>> Window(1, 0, 1, 2).cut(torch.arange(16).view(4, 4), h=2).tolist()
            [[8, 9, 10, 11], [12, 13, 14, 15]]
        """
        s = x.shape[-2] // h
        return x[..., self.top * s : (self.top + self.height) * s, self.left * s : (self.left + self.width) * s]


def object_windows(masks: Tensor, margin: int | None) -> list[Window]:
    """A window for each object: where it is seen, and some cells around.

    Args:
        masks: Soft masks (K, h, w).
        margin: Cells around what is seen of an object; None for the whole grid.

    Returns:
        K windows inside the grid. An object that is hardly seen gets one around its most likely cell, one that is
        not seen at all gets a corner.

    Example:
        >>> import torch
        >>> mask = torch.zeros(1, 20, 30)
        >>> mask[0, 5:9, 10:14] = 1
        >>> object_windows(mask, margin=2), object_windows(mask, margin=None)
        ([Window(top=3, left=8, height=8, width=8)], [Window(top=0, left=0, height=20, width=30)])
    """
    K, h, w = masks.shape
    if margin is None:
        return [Window(0, 0, h, w)] * K
    least = masks.amax(dim=(1, 2), keepdim=True).clamp(max=_SEEN)  # (K, 1, 1)
    seen = ((masks >= least) & (masks > 0)).cpu()
    windows = []
    for rows, columns in zip(seen.any(dim=2), seen.any(dim=1), strict=True):
        top, height = _span(rows, margin, h)
        left, width = _span(columns, margin, w)
        windows.append(Window(top, left, height, width))
    return windows


def _span(seen: Tensor, margin: int, size: int) -> tuple[int, int]:
    """Start and length of one side of a window."""
    cells = seen.nonzero().flatten().tolist() or [0]
    first, last = cells[0] - margin, cells[-1] + margin
    length = min(-(-(last - first + 1) // _STEP) * _STEP, size)
    return max(0, min(first, size - length)), length
