"""The windowed top-k read-out: exact, tile by tile, all references at once (UMEC section 5)."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

_TILE = 8  # cells to a side of a query tile: its haloed window at radius 12 then is 30 cells wide


@dataclass(frozen=True)
class TopK:
    """The best cells of all references for each query cell.

    Attributes:
        index: Position n*h*w + y*w + x of each chosen cell (h*w, k), int64.
        weight: Softmax over the k chosen scores (h*w, k), fp32; rows sum to 1.
    """

    index: Tensor
    weight: Tensor


def top_k_affinity(
    key_q: Tensor,
    keys_r: Tensor,
    anchors: int,
    top_k: int = 10,
    tau: float = 0.05,
    radius: float | None = 12,
    anchor_radius: float | None = None,
) -> TopK:
    """The affinity of inference: softmax over the k best cells of all references jointly.

    A cell of a reference frame counts if its Euclidean distance from the query's position is strictly below the
    frame's radius. Works tile by tile: one product against the tile's window in every reference, and since a
    cell among the k best lies at one of the k positions whose best frame scores highest, only those are sorted.

    Args:
        key_q: Unit-norm key of the query (h, w, D).
        keys_r: Unit-norm keys of the references (N, h, w, D), the anchors first.
        anchors: How many of the N are anchors (first frames of objects); 0 <= anchors <= N.
        top_k: k, cells kept for each query cell.
        tau: Temperature.
        radius: Window on the references that are not anchors, in cells; None for no window.
        anchor_radius: The same for the anchors.

    Returns:
        Indices and weights.

    Example:
        >>> import torch
        >>> keys = torch.nn.functional.normalize(torch.randn(3, 6, 7, 16), dim=-1)
        >>> best = top_k_affinity(keys[2], keys, anchors=1, top_k=1)
        >>> bool((best.index[:, 0] == 2 * 42 + torch.arange(42)).all())  # a frame matches itself best
        True
    """
    h, w, _ = key_q.shape
    groups = [
        (0, keys_r[:anchors], anchor_radius),
        (anchors * h * w, keys_r[anchors:], radius),
    ]
    scores = key_q.new_empty(h, w, top_k, dtype=torch.float32)
    index = torch.empty(h, w, top_k, dtype=torch.int64, device=key_q.device)
    for rows, columns in _tiles(h, w):
        with torch.autocast(key_q.device.type, enabled=False):  # rounded scores would choose other cells
            found = [
                _tile_top_k(key_q[rows, columns], keys, rows, columns, top_k, reach, offset)
                for offset, keys, reach in groups
                if len(keys)
            ]
        merged = torch.cat([s for s, _ in found], dim=1)  # (n, k or 2k)
        merged, order = merged.topk(min(top_k, merged.shape[1]), dim=1)
        chosen = torch.cat([i for _, i in found], dim=1).gather(1, order)
        if (missing := top_k - merged.shape[1]) > 0:  # fewer cells than k in all
            merged, chosen = F.pad(merged, (0, missing), value=-torch.inf), F.pad(chosen, (0, missing))
        tile = (rows.stop - rows.start, columns.stop - columns.start, top_k)
        scores[rows, columns], index[rows, columns] = merged.view(tile), chosen.view(tile)
    return TopK(index.view(h * w, top_k), torch.softmax(scores.view(h * w, top_k) / tau, dim=1))


def gather_values(best: TopK, values: Tensor) -> Tensor:
    """Weighted sum of what the chosen cells hold.

    Args:
        best: Indices and weights of the chosen cells.
        values: Any values on the references' cells (N, h, w, C).

    Returns:
        Values at the query's cells (h*w, C).

    Example:
        >>> import torch
        >>> best = TopK(torch.tensor([[0, 3]]), torch.tensor([[0.25, 0.75]]))
        >>> gather_values(best, torch.arange(4.0).view(1, 2, 2, 1)).item()
        2.25
    """
    return F.embedding_bag(
        best.index, values.flatten(0, 2), per_sample_weights=best.weight.to(values.dtype), mode="sum"
    )


def _tiles(h: int, w: int) -> Iterator[tuple[slice, slice]]:
    for y in range(0, h, _TILE):
        for x in range(0, w, _TILE):
            yield slice(y, min(y + _TILE, h)), slice(x, min(x + _TILE, w))


def _tile_top_k(
    queries: Tensor, keys: Tensor, rows: slice, columns: slice, top_k: int, radius: float | None, offset: int
) -> tuple[Tensor, Tensor]:
    """Scores and indices (n, k) of the best cells of one group of references for one tile of queries."""
    N, h, w, _ = keys.shape
    reach = max(h, w) if radius is None else ceil(radius) - 1  # the largest offset strictly inside the disc
    top, bottom = max(rows.start - reach, 0), min(rows.stop + reach, h)
    left, right = max(columns.start - reach, 0), min(columns.stop + reach, w)
    window = keys[:, top:bottom, left:right].flatten(1, 2)  # (N, P, D)
    scores = torch.matmul(queries.flatten(0, 1), window.transpose(1, 2)).float()  # (N, n, P)
    y = torch.arange(top, bottom, device=keys.device)
    x = torch.arange(left, right, device=keys.device)
    if radius is not None:
        dy = y - torch.arange(rows.start, rows.stop, device=keys.device)[:, None]  # (th, bottom - top)
        dx = x - torch.arange(columns.start, columns.stop, device=keys.device)[:, None]  # (tw, right - left)
        outside = (dy**2)[:, None, :, None] + (dx**2)[None, :, None, :] >= radius**2
        scores = scores.masked_fill(outside.flatten(2).flatten(0, 1), -torch.inf)
    best, _ = scores.max(dim=0)  # (n, P), the best frame of each position
    position = best.topk(min(top_k, best.shape[1]), dim=1).indices  # (n, k)
    candidates = scores.gather(2, position.expand(N, -1, -1)).transpose(0, 1).flatten(1)  # (n, N*k)
    found, order = candidates.topk(min(top_k, candidates.shape[1]), dim=1)
    frame = order // position.shape[1]
    place = position.gather(1, order % position.shape[1])  # within the window
    width = right - left
    cell = y[place // width] * w + x[place % width]
    return found, offset + frame * h * w + cell
