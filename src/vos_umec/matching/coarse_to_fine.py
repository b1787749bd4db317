"""Coarse-to-fine search: the best cells at half the size first, then the four cells inside each of them.

A coarse cell stands for 2 x 2 cells, by the mean of their keys. Coarse queries see a quarter of the cells inside
their windows, and there are a quarter as many of them; half a radius is their reach, so that each match holds a
cell inside the window. Four queries that share a coarse cell then compare the cells inside its best matches, all of
them in one product. What is chosen is approximate, and so are scores of keys in bf16, the products being rounded.
"""

from math import ceil, inf

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.device import multiplies_bf16
from vos_umec.matching.search import outside_window

_CPU_BYTES, _BYTES = 4 * 2**20, 256 * 2**20  # of compared keys at a time: on a CPU they stay in its cache


def compared_type(keys: Tensor) -> torch.dtype:
    """The type in which keys are compared here: bf16 where the hardware multiplies it, else their own."""
    return torch.bfloat16 if multiplies_bf16(keys.device) else keys.dtype


def halve_keys(keys: Tensor) -> Tensor:
    """Keys of 2 x 2 cells: their mean, at unit norm; a last odd row or column is taken alone.

    Args:
        keys: Unit-norm keys (N, h, w, D).

    Returns:
        Keys (N, ceil(h / 2), ceil(w / 2), D), of `compared_type`.
    """
    means = F.avg_pool2d(keys.permute(0, 3, 1, 2).float(), kernel_size=2, ceil_mode=True)  # (N, D, h2, w2)
    return F.normalize(means, dim=1).permute(0, 2, 3, 1).to(compared_type(keys))


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
    cases: Tensor,
    wanted: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The best cells among those inside coarse cells.

    Args:
        key_q: Unit-norm key of the query (h, w, D).
        keys: Unit-norm keys of the references (N, h, w, D).
        found: Scores of the matches of each coarse query cell (h2*w2, M), inside the coarse windows; -inf where
            there is none. The coarse grid has h2 = ceil(h / 2) rows of w2 = ceil(w / 2) cells.
        parents: Positions n*h2*w2 + Y*w2 + X of these matches (h2*w2, M).
        top_k: k, cells to find for each query cell; at most 4 M.
        permanent: How many of the N, the first ones, are permanent.
        cases: The windows, of `window_cases`.
        wanted: Coarse query cells to search for (h2, w2) bool; None for all.

    Returns:
        Scores (h*w, k) fp32, the best first, -inf where there are fewer than k cells and where none are wanted;
        their positions n*h*w + y*w + x (h*w, k), int64.
    """
    _, h, w, D = keys.shape
    h2, w2 = ceil(h / 2), ceil(w / 2)
    # A last odd row or column lacks its other half: queries of zeros stand there, and are dropped in the end.
    odd = (0, 0, 0, w % 2, 0, h % 2)
    queries = F.pad(key_q.to(keys.dtype), odd).reshape(h2, 2, w2, 2, D)
    queries = queries.transpose(1, 2).reshape(-1, 4, D)  # (h2*w2, 4, D)
    cells = torch.arange(h2 * w2, device=keys.device) if wanted is None else wanted.flatten().nonzero()[:, 0]
    scores = torch.full((h2 * w2, 4, top_k), -torch.inf, device=keys.device)
    index = torch.zeros(h2 * w2, 4, top_k, dtype=torch.int64, device=keys.device)
    M, held = parents.shape[1], keys.flatten(0, 2)  # (N*h*w, D)
    budget = _CPU_BYTES if keys.device.type == "cpu" else _BYTES
    parts = cells.split(max(1, budget // (4 * M * D * keys.element_size())))
    block = keys.new_empty(len(parts[0]) * 4 * M, D)  # of every part: fresh pages cost more than what is copied
    for part in parts:
        child = _children(parents[part], (h, w)).clamp_(max=len(held) - 1)  # (Q, 4M)
        compared = torch.index_select(held, 0, child.flatten(), out=block[: child.numel()])
        products = torch.bmm(queries[part], compared.view(*child.shape, D).mT)  # (Q, 4, 4M)
        hidden = _hidden(part, parents[part], found[part].isneginf(), permanent, (h, w), cases)
        best, order = products.view(*hidden.shape).masked_fill_(hidden, -inf).flatten(2).topk(top_k, dim=2)
        scores[part] = best.float()
        index[part] = child[:, None].expand_as(products).gather(2, order)
    return _on_grid(scores, (h, w)), _on_grid(index, (h, w))


def _children(parents: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions of the cells inside coarse cells: (Q, M) to (Q, 4M). Beyond an odd border they are of no cell."""
    h, w = grid
    h2, w2 = ceil(h / 2), ceil(w / 2)
    first = (parents // (h2 * w2) * h + parents // w2 % h2 * 2) * w + parents % w2 * 2  # (Q, M)
    step = torch.arange(2, device=parents.device)
    return (first[:, :, None, None] + step[:, None] * w + step).flatten(1)


def _hidden(
    cells: Tensor,
    parents: Tensor,
    missing: Tensor,
    permanent: int,
    grid: tuple[int, int],
    cases: Tensor,
) -> Tensor:
    """Whether cells inside matches do not count for a query.

    Args:
        cells: Coarse query cells (Q,).
        parents: Positions of their matches (Q, M), inside the coarse windows.
        missing: Matches that are none (Q, M) bool.
        permanent: How many references, the first ones, are permanent.
        grid: (h, w).
        cases: The windows, of `window_cases`.

    Returns:
        (Q, 4, M, 4) bool, of the four queries in a coarse cell and the four cells in a match.
    """
    h2, w2 = (ceil(side / 2) for side in grid)
    rows, columns = cases.shape[3:5]
    n, row, column = parents // (h2 * w2), parents // w2 % h2, parents % w2  # (Q, M)
    case = (n >= permanent) * 2 + (row == grid[0] // 2)  # true in a last row that is alone, in an odd grid
    case = case * 2 + (column == grid[1] // 2)
    case = case * rows + row - (cells // w2)[:, None] + rows // 2
    case = case * columns + column - (cells % w2)[:, None] + columns // 2
    hidden = cases.view(-1, 16).index_select(0, case.masked_fill(missing, 0).flatten())
    return hidden.view(*parents.shape, 4, 4).masked_fill_(missing[:, :, None, None], True).transpose(1, 2)


def window_cases(
    radii: tuple[float | None, float | None], grid: tuple[int, int], window: str, device: torch.device
) -> Tensor:
    """Which cells are outside the windows, to be looked up: for each pair anew it would take longer than products.

    Args:
        radii: Reach of the windows on permanent references and on the others in cells; None for no window.
        grid: (h, w).
        window: Shape of the windows, see `search_window`.
        device: Where the cells are compared.

    Returns:
        (2, 2, 2, rows, columns, 4, 4) bool. By whether the reference is permanent (0) or not (1); whether the match
        is in a last row that is alone, and in such a column; how many rows and columns it is away from the query's
        coarse cell; of the four queries and the four cells.
    """
    limits = [inf if radius is None else radius for radius in radii]
    step = torch.arange(2, device=device)
    reach = [min(ceil(side / 2) - 1, ceil(min(max(limits), side) / 2)) for side in grid]
    away = [torch.arange(-far, far + 1, device=device)[:, None, None] for far in reach]
    dy, dx = (2 * each - step[:, None] + step for each in away)  # (away, of a query, of a cell), in cells
    dy, dx = dy.float()[:, None, :, None, :, None], dx.float()[None, :, None, :, None, :]
    outside = torch.stack([outside_window(dy, dx, limit, window) for limit in limits])
    cases = outside[:, None, None].repeat(1, 2, 2, *[1] * 6)  # (2, 2, 2, rows, columns, 2, 2, 2, 2)
    cases[:, 1, ..., 1, :] = True
    cases[:, :, 1, ..., 1] = True
    return cases.flatten(5, 6).flatten(6, 7)


def _on_grid(found: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values of the four queries of each coarse cell (h2*w2, 4, k), in the order of the grid (h*w, k)."""
    h2, w2 = (ceil(side / 2) for side in grid)
    placed = found.view(h2, w2, 2, 2, -1).transpose(1, 2).reshape(2 * h2, 2 * w2, -1)
    return placed[: grid[0], : grid[1]].flatten(0, 1)
