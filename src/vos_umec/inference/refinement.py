"""Refinement of one frame: the frame-mask encoder and the decoder, in a window around each object."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vos_umec.models.encoder import Features
from vos_umec.models.layers import soft_aggregate
from vos_umec.models.mask_encoder import FrameFeatures
from vos_umec.models.umec import UMEC

_SEEN = 0.25
"""A cell with less of an object than this does not stretch its window: top-k leaks a tenth here and there."""

_STEP = 4
"""Sides of windows are multiples of so many cells, so that objects of like size share one batch."""


@dataclass(frozen=True)
class Window:
    """A rectangle of the feature grid, in cells."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, x: Tensor, h: int) -> Tensor:
        """The window's part of a map (..., H, W) that has H / h pixels to a side of a cell (a view)."""
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


CPU_OBJECTS, OTHER_OBJECTS = 1, 8
"""Objects that go through V and D at once; on a CPU the convolutions alone were quickest one at a time."""


class FrameRefiner:
    """V and D on one frame (UMEC eq. 3, 5, 6).

    Over whole-grid windows this computes what `UMEC.embed` and `UMEC.decode` do. Smaller windows save time in
    proportion to their area, at a price: V and D see zeros beyond the border, and the mask outside is 0.

    Args:
        network: The network.
        image: The normalised frame (1, 3, H, W).
        features: E's features of it.
    """

    def __init__(self, network: UMEC, image: Tensor, features: Features) -> None:
        self.network = network
        self.most = CPU_OBJECTS if image.device.type == "cpu" else OTHER_OBJECTS
        self.skips = features.skips
        self.image = image
        self.cached = network.mask_encoder.precompute(image, features.trunk)
        self.size = (image.shape[-2], image.shape[-1])
        self.grid = (features.trunk.shape[-2], features.trunk.shape[-1])

    def embed(self, masks: Tensor, windows: Sequence[Window]) -> Tensor:
        """V([I, Y]) of every object.

        Args:
            masks: Soft masks (K, H, W) in [0, 1].
            windows: K windows.

        Returns:
            Mask embeddings (h, w, K, Dv), zero outside an object's window.
        """
        Dv = self.cached.trunk.shape[1]
        values = self.cached.trunk.new_zeros(*self.grid, len(masks), Dv)
        for k in _groups(windows, self.most):
            found = self.network.mask_encoder.embed(
                self._frame_features(windows, k), self._masks(masks, windows, k)
            )
            for i, one in zip(k, found, strict=True):  # one (Dv, h', w')
                windows[i].cut(values[:, :, i].permute(2, 0, 1), self.grid[0]).copy_(one)
        return values

    def refine(
        self,
        masks: Tensor,
        windows: Sequence[Window],
        values: Callable[[int, Window], Tensor],
        evidence: Callable[[int], Tensor],
        rounds: int,
    ) -> Tensor:
        """Yhat^R from the coarse masks.

        Args:
            masks: Ybar_q, the coarse masks, at the frame's size (K, H, W) in [0, 1].
            windows: K windows.
            values: Gives V_q of one object inside its window, (Dv, h', w').
            evidence: Gives the evidence of one object's read-out, (4, h, w), for a decoder that takes it.
            rounds: R, 1 or more.

        Returns:
            Aggregated logits (K+1, H, W), fp32, channel 0 the background; an object is nowhere outside its window.
        """
        h, D = self.grid[0], self.network.decoder
        masks = masks.float().clamp(0, 1)
        skips = D.precompute(self.skips, self.image)
        fixed = []  # the same in every round
        for k in _groups(windows, self.most):
            V_q = torch.stack([values(i, windows[i]) for i in k])
            sure = None if D.evidence is None else torch.stack([windows[i].cut(evidence(i), h) for i in k])
            fixed.append(
                (
                    k,
                    self._frame_features(windows, k),
                    [_rows(x, windows, k, h) for x in skips],
                    D.precompute_object(V_q, sure),
                )
            )
        for r in range(rounds):
            p = torch.zeros_like(masks)
            for k, frame, skip, first in fixed:
                mask = self._masks(masks, windows, k)
                found = D(first, self.network.mask_encoder.embed(frame, mask), skip, mask)  # (n, 1, H', W')
                for i, one in zip(k, found.sigmoid(), strict=True):
                    windows[i].cut(p[i], h).copy_(one[0])
            logits = soft_aggregate(p[None])[0]  # (K+1, H, W)
            if r < rounds - 1:
                masks = logits.softmax(dim=0)[1:]
        return logits

    def _masks(self, masks: Tensor, windows: Sequence[Window], k: Sequence[int]) -> Tensor:
        return torch.stack([windows[i].cut(masks[i : i + 1], self.grid[0]) for i in k])  # (n, 1, H', W')

    def _frame_features(self, windows: Sequence[Window], k: Sequence[int]) -> FrameFeatures:
        rgb, trunk = (_rows(x, windows, k, self.grid[0]) for x in (self.cached.rgb, self.cached.trunk))
        return FrameFeatures(rgb, trunk)


def _rows(x: Tensor, windows: Sequence[Window], k: Sequence[int], h: int) -> Tensor:
    """A frame's map (1, C, H, W) cut to each object's window; one row where all windows are one."""
    different = list(dict.fromkeys(windows[i] for i in k))
    if len(different) == 1:
        return different[0].cut(x, h)
    return torch.cat([windows[i].cut(x, h) for i in k])


def _groups(windows: Sequence[Window], most: int) -> list[list[int]]:
    """The objects, those with windows of one size together, `most` at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, window in enumerate(windows):
        groups.setdefault((window.height, window.width), []).append(i)
    return [group[j : j + most] for group in groups.values() for j in range(0, len(group), most)]
