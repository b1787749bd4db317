"""The search behind the read-out on GPUs: the k best reference cells of every query cell, in few large steps.

A GPU takes longer to start a small product than to compute it, so that the tiles of `search` would leave it idle.
Here a band of query rows is one batched product, in which each row meets the reference rows within its reach. Their
windows overlap in memory: they are read in place, without a copy for each. Then only the best groups of cells are
sorted in full, as in `search`. Nothing here waits for the device.

Products may be taken in fp16, which GPUs multiply many times faster than fp32. They serve only to choose
candidates, 2 k + 12 cells a query, whose scores are computed again in fp32. Keys have unit norm, so that an fp16
score is within 0.0015 of the exact one; in bf16 it would be 8 times as far off. One of the k best cells is lost
only if k + 13 lesser ones overtake it by these errors, and the cell in its place has nearly its score. Keys of the
shipped model lost no cell but for ties, on three DAVIS sequences. Those of an untrained network, nearly alike
everywhere, lost one in 0.6 % of the queries, to cells whose scores differ by less than 0.0002.
"""

from collections.abc import Iterator
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.matching.search import outside_window, window_reach

_COLUMNS = 64  # query columns that share a product: in wider ones most cells are too far apart
_ALIGNED = 8  # reference columns are a multiple of it: tensor cores take rows of whole 16 bytes
_BYTES = 512 * 2**20  # of products and candidates at a time


def search_window_in_bands(
    key_q: Tensor, keys: Tensor, top_k: int, radius: float, half: bool = False, window: str = "disc"
) -> tuple[Tensor, Tensor]:
    """The best cells within a window around the query's own position.

    It works in 0.5 GiB and a copy of the reference rows that a band sees, whatever the size of the grid. Only where
    one row of 64 queries needs more, as with 2,000 references at radius 12, it takes what that row needs.

    Args:
        key_q: Unit-norm key of the query (h, w, D).
        keys: Unit-norm keys of the references (N, h, w, D), N at least 1.
        top_k: k, cells to find for each query cell.
        radius: Reach of the window in cells, above 0.
        half: Choose candidates by products in fp16.
        window: "disc" for Euclidean distance, "square" for the larger one of those along rows and columns.

    Returns:
        Scores (h*w, k) fp32, the best first, -inf where there are fewer than k cells; their positions
        n*h*w + y*w + x (h*w, k), int64, inside the grid whatever the score.
    """
    N, h, w, D = keys.shape
    kind, count = _product_type(keys, half), _candidate_count(top_k, half)
    reach = window_reach(radius)
    n = 2 * reach + 1
    y, x, dy = (
        torch.arange(*ends, device=keys.device) for ends in ((0, h), (0, w + _ALIGNED), (-reach, reach + 1))
    )
    y_seen = y[:, None] + dy  # (h, n)
    off_grid = (y_seen < 0) | (y_seen >= h)
    queries = key_q.to(kind)
    scores = torch.empty(h, w, top_k, device=keys.device)
    index = torch.empty(h, w, top_k, dtype=torch.int64, device=keys.device)
    for columns in _even_spans(w, _COLUMNS):
        left, right = max(columns.start - reach, 0), min(columns.stop + reach, w)
        c, X = columns.stop - columns.start, ceil((right - left) / _ALIGNED) * _ALIGNED
        x_seen = x[left : left + X]
        far = outside_window(dy[:, None], x_seen - x[columns, None, None], radius, window)  # (c, n, X)
        far |= x_seen >= w  # columns that align it
        for rows in _even_spans(h, _BYTES // (c * _bytes_a_query(n * X, N, D, kind, count))):
            b, above = rows.stop - rows.start, rows.start - reach
            top, bottom = max(above, 0), min(rows.stop + reach, h)
            seen = torch.zeros(b + 2 * reach, N, X, D, dtype=kind, device=keys.device)
            seen[top - above : bottom - above, :, : right - left] = keys[:, top:bottom, left:right].transpose(0, 1)
            windows = seen.as_strided((b, n * N * X, D), (N * X * D, D, 1))  # one for each row, overlapping
            hidden = far | off_grid[rows, None, :, None]  # (b, c, n, X)
            found, place, reference = _candidates(
                torch.bmm(queries[rows, columns], windows.mT).view(b * c, n, N, X), hidden.flatten(0, 1), count
            )
            # From places of rows of X cells to those of the grid's rows, of w cells.
            cell = torch.add(place, place // X, alpha=w - X).view(b, -1) + (y_seen[rows, :1] * w + left)
            cell = torch.add(cell.clamp_(0, h * w - 1).view_as(reference), reference, alpha=h * w)  # (b*c, count)
            if half:
                found, cell = _compared_in_full(key_q[rows, columns].flatten(0, 1), keys, found, cell, top_k)
            scores[rows, columns] = found.view(b, c, top_k)
            index[rows, columns] = cell.view(b, c, top_k)
            del seen, windows, hidden  # before the next ones are asked for
    return scores.flatten(0, 1), index.flatten(0, 1)


def search_all_in_bands(key_q: Tensor, keys: Tensor, top_k: int, half: bool = False) -> tuple[Tensor, Tensor]:
    """The best cells of the whole grid.

    It works in 0.5 GiB and, with `half`, a copy of the keys in fp16.

    Args:
        key_q: Unit-norm key of the query (h, w, D).
        keys: Unit-norm keys of the references (N, h, w, D), N at least 1.
        top_k: k, cells to find for each query cell.
        half: Choose candidates by products in fp16.

    Returns:
        Scores and positions as of `search_window_in_bands`.
    """
    N, h, w, D = keys.shape
    kind, count = _product_type(keys, half), _candidate_count(top_k, half)
    cells = keys.to(kind).flatten(0, 2)  # (N*h*w, D)
    parts = []
    for rows in _even_spans(h * w, _BYTES // _bytes_a_query(h * w, N, D, kind, count)):
        queries = key_q.flatten(0, 1)[rows]  # (Q, D)
        products = (queries.to(kind) @ cells.T).view(-1, 1, N, h * w)
        found, place, reference = _candidates(products, None, count)
        del products  # before the next ones are asked for
        cell = torch.add(place, reference, alpha=h * w)
        parts.append(_compared_in_full(queries, keys, found, cell, top_k) if half else (found, cell))
    scores, index = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(index)


def _product_type(keys: Tensor, half: bool) -> torch.dtype:
    return torch.float16 if half else keys.dtype


def _candidate_count(top_k: int, half: bool) -> int:
    return 2 * top_k + 12 if half else top_k


def _bytes_a_query(groups: int, N: int, D: int, kind: torch.dtype, count: int) -> int:
    """Of its products and the maxima of groups; of the places and scores of its candidates, and their fp32 keys."""
    return groups * ((N + 1) * kind.itemsize + 1) + count * (N * (8 + 2 * kind.itemsize) + D * 4)


def _even_spans(size: int, most: int) -> Iterator[slice]:
    """Parts of a range, about equal, of `most` or of 1 at most."""
    parts = ceil(size / max(1, most))
    for i in range(parts):
        yield slice(size * i // parts, size * (i + 1) // parts)


def _candidates(products: Tensor, hidden: Tensor | None, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best cells by their products. Each of them is in one of the groups whose best cell is best.

    Args:
        products: Of each query with all cells (Q, Y, N, X): the N cells of one y, x are a group.
        hidden: Groups that do not count for a query (Q, Y, X) bool.
        count: Cells to choose.

    Returns:
        Scores (Q, count) fp32, the best first, -inf where there are fewer cells; the places y*X + x of their groups
        and their places among the N (Q, count).
    """
    _, Y, N, X = products.shape
    best = products.amax(dim=2)  # (Q, Y, X)
    if hidden is not None:
        best.masked_fill_(hidden, -torch.inf)
    best = best.flatten(1)
    if (missing := count - Y * X) > 0:
        best = F.pad(best, (0, missing), value=-torch.inf)
    highest, group = best.topk(count, dim=1, sorted=False)
    group.clamp_(max=Y * X - 1)  # (Q, count)
    first = torch.add(group, group // X, alpha=(N - 1) * X)  # where a group begins in `products`
    members = first[:, :, None] + torch.arange(0, N * X, X, device=products.device)  # (Q, count, N)
    scores = products.flatten(1).gather(1, members.flatten(1)).unflatten(1, (count, N))
    scores = scores.masked_fill(highest.isneginf()[:, :, None], -torch.inf)
    scores, order = scores.flatten(1).topk(count, dim=1)
    return scores.float(), group.gather(1, order // N), order % N


def _compared_in_full(
    queries: Tensor, keys: Tensor, found: Tensor, index: Tensor, top_k: int
) -> tuple[Tensor, Tensor]:
    """The k best of some candidates by their scores in fp32.

    Args:
        queries: Keys of query cells (Q, D).
        keys: Keys of the references (N, h, w, D).
        found: Scores of the candidates (Q, count); -inf where there is none.
        index: Their positions n*h*w + y*w + x (Q, count).
        top_k: k.

    Returns:
        Scores and positions (Q, k), the best first.
    """
    # Not a matrix product, which would be in TF32 where that is allowed.
    exact = keys.flatten(0, 2)[index].mul_(queries[:, None]).sum(dim=2)  # (Q, count)
    scores, order = exact.masked_fill_(found.isneginf(), -torch.inf).topk(top_k, dim=1)
    return scores, index.gather(1, order)
