"""Coarse-to-fine search: the best cells at half the size first, then the four cells inside each of them.

A coarse cell stands for 2 x 2 cells, by the mean of their keys. Coarse queries see a quarter of the cells inside
their windows, and there are a quarter as many of them; half a radius is their reach, so that each match holds a
cell inside the window. Four queries that share a coarse cell then compare the cells inside its best matches, all of
them in one product. What is chosen is approximate; its scores are exact.
"""

from math import ceil, inf

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.device import multiplies_bf16
from vos_umec.matching.search import outside_window

_CPU_BYTES, _BYTES = 4 * 2**20, 256 * 2**20  # of compared keys at a time: on a CPU they stay in its cache


def halve_keys(keys: Tensor) -> Tensor:
    """Keys of 2 x 2 cells: their mean, at unit norm; a last odd row or column is taken alone.

    Args:
        keys: Unit-norm keys (N, h, w, D).

    Returns:
        Keys (N, ceil(h / 2), ceil(w / 2), D), in bf16 where the hardware multiplies it.
    """
    means = F.avg_pool2d(keys.permute(0, 3, 1, 2).float(), kernel_size=2, ceil_mode=True)  # (N, D, h2, w2)
    kind = torch.bfloat16 if multiplies_bf16(keys.device) else keys.dtype
    return F.normalize(means, dim=1).permute(0, 2, 3, 1).to(kind)


def halve_wanted(wanted: Tensor) -> Tensor:
    """Coarse cells (ceil(h / 2), ceil(w / 2)) bool that hold a wanted cell of (h, w)."""
    return F.max_pool2d(wanted[None].float(), kernel_size=2, ceil_mode=True)[0] > 0


def compare_inside(
    key_q: Tensor,
    keys: Tensor,
    found: Tensor,
    parents: Tensor,
    top_k: int,
    permanent: int,
    radii: tuple[float | None, float | None],
    window: str = "disc",
    wanted: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The best cells among those inside coarse cells.

    Args:
        key_q: Unit-norm key of the query (h, w, D).
        keys: Unit-norm keys of the references (N, h, w, D).
        found: Scores of the matches of each coarse query cell (h2*w2, M), -inf where there is none; the coarse grid
            has h2 = ceil(h / 2) rows of w2 = ceil(w / 2) cells.
        parents: Positions n*h2*w2 + Y*w2 + X of these matches (h2*w2, M).
        top_k: k, cells to find for each query cell; at most 4 M.
        permanent: How many of the N, the first ones, are permanent.
        radii: Reach of the windows on permanent references and on the others in cells; None for no window.
        window: Shape of the windows, see `search_window`.
        wanted: Coarse query cells to search for (h2, w2) bool; None for all.

    Returns:
        Scores (h*w, k) fp32, the best first, -inf where there are fewer than k cells and where none are wanted;
        their positions n*h*w + y*w + x (h*w, k), int64.
    """
    _, h, w, D = keys.shape
    h2, w2 = ceil(h / 2), ceil(w / 2)
    # A last odd row or column lacks its other half: queries of zeros stand there, and are dropped in the end.
    odd = (0, 0, 0, w % 2, 0, h % 2)
    queries = F.pad(key_q, odd).reshape(h2, 2, w2, 2, D).transpose(1, 2).reshape(-1, 4, D)  # (h2*w2, 4, D)
    cells = torch.arange(h2 * w2, device=keys.device) if wanted is None else wanted.flatten().nonzero()[:, 0]
    scores = torch.full((h2 * w2, 4, top_k), -torch.inf, device=keys.device)
    index = torch.zeros(h2 * w2, 4, top_k, dtype=torch.int64, device=keys.device)
    limits = inf if radii[0] is None else radii[0], inf if radii[1] is None else radii[1]
    budget = _CPU_BYTES if keys.device.type == "cpu" else _BYTES
    for part in cells.split(max(1, budget // (4 * parents.shape[1] * D * keys.element_size()))):
        n = parents[part] // (h2 * w2)  # (Q, M)
        reach = torch.where(n < permanent, *limits)  # (Q, M)
        child, hidden = _children(part, parents[part], reach, (h, w), window)
        hidden = hidden | found[part].isneginf().repeat_interleave(4, dim=1)[:, None]  # (Q, 4, 4M)
        compared = keys.flatten(0, 2).index_select(0, child.flatten()).view(*child.shape, D)  # (Q, 4M, D)
        products = torch.bmm(queries[part], compared.mT).float().masked_fill_(hidden, -torch.inf)  # (Q, 4, 4M)
        scores[part], order = products.topk(top_k, dim=2)
        index[part] = child[:, None].expand_as(products).gather(2, order)
    return _on_grid(scores, (h, w)), _on_grid(index, (h, w))


def _children(
    cells: Tensor, parents: Tensor, reach: Tensor, grid: tuple[int, int], window: str
) -> tuple[Tensor, Tensor]:
    """The cells inside coarse cells.

    Args:
        cells: Coarse query cells (Q,).
        parents: Positions of their matches (Q, M).
        reach: Of the windows on these matches' frames (Q, M), in cells.
        grid: (h, w).
        window: Shape of the windows.

    Returns:
        Positions of the children (Q, 4M), inside the grid, and those that do not count for each of the 4 queries
        (Q, 4, 4M) bool.
    """
    h, w = grid
    h2, w2 = ceil(h / 2), ceil(w / 2)
    step = torch.arange(2, device=cells.device)
    n, Y, X = parents // (h2 * w2), parents // w2 % h2, parents % w2  # (Q, M)
    y, x = 2 * Y[:, :, None] + step, 2 * X[:, :, None] + step  # (Q, M, 2)
    rows = (n[:, :, None] * h + y.clamp(max=h - 1)) * w  # (Q, M, 2)
    child = rows[:, :, :, None] + x.clamp(max=w - 1)[:, :, None, :]  # (Q, M, 2, 2)
    qy, qx = 2 * (cells // w2)[:, None] + step, 2 * (cells % w2)[:, None] + step  # (Q, 2)
    dy = (y[:, None] - qy[:, :, None, None])[:, :, None, :, :, None].float()  # (Q, 2, 1, M, 2, 1)
    dx = (x[:, None] - qx[:, :, None, None])[:, None, :, :, None, :].float()  # (Q, 1, 2, M, 1, 2)
    hidden = outside_window(dy, dx, reach[:, None, None, :, None, None], window)  # (Q, 2, 2, M, 2, 2)
    hidden |= ((y >= h)[:, :, :, None] | (x >= w)[:, :, None, :])[:, None, None]
    return child.flatten(1), hidden.flatten(3).flatten(1, 2)


def _on_grid(found: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values of the four queries of each coarse cell (h2*w2, 4, k), in the order of the grid (h*w, k)."""
    h2, w2 = (ceil(side / 2) for side in grid)
    placed = found.view(h2, w2, 2, 2, -1).transpose(1, 2).reshape(2 * h2, 2 * w2, -1)
    return placed[: grid[0], : grid[1]].flatten(0, 1)
