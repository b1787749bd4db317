"""The search behind the read-out on CPUs: the k best reference cells of every query cell, exact, in bounded memory.

It uses two ideas. First, cells are grouped: one position in all reference frames is a group. Each of a query's
k best cells lies in one of the k groups whose best cell scores highest, so that only the groups' maxima are sorted
in full. Second, a tile of query cells shares one matrix product against all cells that any of them sees. Cells
outside a query's own window are discarded after the maximum, where only one N-th as much is left to discard.
"""

from collections.abc import Iterator
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor


class Scratch:
    """A block of working memory that every call uses again: asking for fresh pages costs more than filling them.

    The content is the borrower's until the next call of `borrow`; one owner, one thread.
    """

    def __init__(self) -> None:
        self._block: Tensor | None = None

    def borrow(self, size: int, like: Tensor) -> Tensor:
        """An uninitialised tensor (size,), of the type and on the device of `like`."""
        block = self._block
        if block is None or len(block) < size or block.dtype != like.dtype or block.device != like.device:
            self._block = None  # freed before a larger one is asked for
            with torch.inference_mode(False):  # a block made inside could not be written outside
                block = self._block = torch.empty(size, dtype=like.dtype, device=like.device)
        return block[:size]


def window_reach(radius: float) -> int:
    """The most rows or columns that a cell inside a window may be away."""
    return ceil(radius) - 1


def outside_window(dy: Tensor, dx: Tensor, radius: float | Tensor, window: str) -> Tensor:
    """Whether cells are outside a window, by their distances along rows and columns; its edge is outside."""
    down, across = dy**2, dx**2
    return (down + across if window == "disc" else torch.maximum(down, across)) >= radius**2


_TILE = 8  # cells to a side of a query tile; its window at radius 12 is 30 cells wide, twice the disc's area
_BAND = 72  # query rows that share one copy of the references' columns, a multiple of _TILE
_COPY_BYTES = 48 * 2**20  # of references copied at a time; further ones are searched in turns
_QUERIES, _GROUPS, _GROUP = 128, 256, 32  # at a time where there is no window: products of 4 MiB


def search_window(
    key_q: Tensor,
    keys: Tensor,
    top_k: int,
    radius: float,
    scratch: Scratch,
    window: str = "disc",
    wanted: Tensor | None = None,
    pool: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The best cells within a window around the query's own position.

    Args:
        key_q: Key of the query (h, w, D).
        keys: Keys of the references (N, h, w, D), N at least 1.
        top_k: k, cells to find for each query cell.
        radius: Cells nearer than this count (strictly), in cells, above 0.
        scratch: Working memory.
        window: "disc" for Euclidean distance, "square" for the larger one of those along rows and columns.
        wanted: Query cells to search for (h, w) bool; None for all. Tiles without any are left out.
        pool: Choose among the cells of the best groups, which together hold so many, at least `top_k`; None for k
            groups, with which the search is exact.

    Returns:
        Scores (h*w, k) fp32, the best first, -inf where there are fewer than k cells; their positions
        n*h*w + y*w + x (h*w, k), int64.
    """
    N, h, w, D = keys.shape
    halo = window_reach(radius)
    band_rows, window_columns = min(h, _BAND + 2 * halo), min(w, _TILE + 2 * halo)
    turns = ceil(N * band_rows * window_columns * D * keys.element_size() / _COPY_BYTES)
    if turns > 1 and N > 1:
        parts = keys.chunk(turns)
        starts = range(0, N, len(parts[0]))
        found = [search_window(key_q, part, top_k, radius, scratch, window, wanted, pool) for part in parts]
        return merge([(s, i + n * h * w) for (s, i), n in zip(found, starts, strict=True)], top_k)

    groups = top_k if pool is None else min(top_k, ceil(pool / N))
    outside = _outside(halo, radius, window, keys.device)
    scores = torch.full((h, w, top_k), -torch.inf, device=keys.device)
    index = torch.zeros(h, w, top_k, dtype=torch.int64, device=keys.device)
    copy = scratch.borrow(band_rows * N * window_columns * D, like=keys)
    for band in _spans(0, h, _BAND):
        above, below = max(band.start - halo, 0), min(band.stop + halo, h)
        for columns in _spans(0, w, _TILE):
            left, right = max(columns.start - halo, 0), min(columns.stop + halo, w)
            width = right - left
            # Rows outermost, so that every tile's window in these columns is one contiguous piece; copied row by
            # row as the tiles come to need them, while they are still in the processor's cache.
            strip = copy[: (below - above) * N * width * D].view(below - above, N, width, D)
            ready, found = above, []
            searched: list[int] = []
            for rows in _spans(band.start, band.stop, _TILE):
                if wanted is not None and not wanted[rows, columns].any():
                    continue
                top, bottom = max(rows.start - halo, 0), min(rows.stop + halo, h)
                ready = max(ready, top)
                strip[ready - above : bottom - above] = keys[:, ready:bottom, left:right].transpose(0, 1)
                ready = bottom
                y, x = top - rows.start + halo, left - columns.start + halo  # of this window in a whole one
                far = outside[: rows.stop - rows.start, : columns.stop - columns.start]
                candidates, place = _candidates(
                    strip[top - above : bottom - above],
                    key_q[rows, columns].flatten(0, 1),
                    groups,
                    far[:, :, y : y + bottom - top, x : x + width],
                )
                found.append((candidates, (place // width + top) * w + place % width + left))
                searched += range(rows.start, rows.stop)
            if not found:
                continue
            candidates, cells = (torch.cat(part) for part in zip(*found, strict=True))
            best, order = candidates.flatten(1).topk(top_k, dim=1)
            tile = (len(searched), columns.stop - columns.start, top_k)
            scores[searched, columns] = best.float().view(tile)
            index[searched, columns] = (cells.gather(1, order // N) + order % N * (h * w)).view(tile)
    return scores.flatten(0, 1), index.flatten(0, 1)


def search_all(key_q: Tensor, keys: Tensor, top_k: int, wanted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The best cells of the whole grid.

    Args:
        key_q: Key of the query (h, w, D).
        keys: Keys of the references (N, h, w, D), N at least 1.
        top_k: k, cells to find for each query cell.
        wanted: Query cells to search for (h, w) bool; None for all.

    Returns:
        Scores and positions as of `search_window`.
    """
    cells = keys.reshape(-1, keys.shape[-1])
    whole = len(cells) - len(cells) % _GROUP
    blocks = [*_spans(0, whole, _GROUPS * _GROUP), *_spans(whole, len(cells), _GROUP)]
    scores = torch.full((key_q.shape[0] * key_q.shape[1], top_k), -torch.inf, device=keys.device)
    index = torch.zeros(*scores.shape, dtype=torch.int64, device=keys.device)
    places = torch.arange(len(scores), device=keys.device)
    for some in (places if wanted is None else places[wanted.flatten()]).split(_QUERIES):
        queries, found = key_q.flatten(0, 1)[some], []
        for block in blocks:
            length = block.stop - block.start
            size = (1, _GROUP, length // _GROUP) if block.stop <= whole else (1, 1, length)
            candidates, place = _candidates(cells[block].view(*size, -1), queries, top_k)
            best, order = candidates.flatten(1).topk(top_k, dim=1)
            cell = place.gather(1, order // size[1]) + order % size[1] * size[2] + block.start
            found.append((best.float(), cell))
        scores[some], index[some] = merge(found, top_k)
    return scores, index


def merge(found: list[tuple[Tensor, Tensor]], top_k: int) -> tuple[Tensor, Tensor]:
    """The k best of several search results.

    Args:
        found: Scores and positions (n, any number) of each.
        top_k: k; together the results have at least k columns.

    Returns:
        Scores and positions (n, k), the best first.
    """
    if len(found) == 1:
        return found[0]
    scores, order = torch.cat([s for s, _ in found], dim=1).topk(top_k, dim=1)
    return scores, torch.cat([i for _, i in found], dim=1).gather(1, order)


def _spans(start: int, stop: int, step: int) -> Iterator[slice]:
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))


def _outside(halo: int, radius: float, window: str, device: torch.device) -> Tensor:
    """-inf where a cell of a tile's surroundings is outside a query's window, else 0 (tile, tile, seen, seen)."""
    offset = (
        torch.arange(_TILE + 2 * halo, device=device) - torch.arange(halo, halo + _TILE, device=device)[:, None]
    )
    outside = outside_window(offset[:, None, :, None], offset[None, :, None, :], radius, window)
    return torch.zeros(outside.shape, device=device).masked_fill_(outside, -torch.inf)


def _products(cells: Tensor, queries: Tensor) -> Tensor:
    """Products (Y, G, X, n) of reference cells (Y, G, X, D) and queries (n, D)."""
    Y, G, X, D = cells.shape
    if cells.device.type == "cpu" and cells.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        # The same product with the queries as 1 x 1 filters: oneDNN's convolutions run three times as fast on CPUs
        # as the BLAS behind `@`.
        picture = cells.view(1, Y * G, X, D).permute(0, 3, 1, 2)
        return F.conv2d(picture, queries[:, :, None, None]).permute(0, 2, 3, 1).reshape(Y, G, X, -1)
    return (cells.view(-1, D) @ queries.T).view(Y, G, X, -1)


def _candidates(
    cells: Tensor, queries: Tensor, groups: int, outside: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The cells that can be among the k best: all G cells of the k groups whose best cell is best, or of fewer.

    Args:
        cells: Keys of reference cells (Y, G, X, D): the G cells of one y, x are a group.
        queries: Keys of query cells (n, D).
        groups: How many groups; k for all cells that can be.
        outside: Added to a group's best score for each query, 0 or -inf (th, tw, Y, X), with th*tw = n.

    Returns:
        Scores (n, groups, G) of the keys' type, and their groups y*X + x (n, groups).
    """
    Y, G, X, _ = cells.shape
    n = len(queries)
    products = _products(cells, queries)  # (Y, G, X, n)
    best = products.amax(dim=1)  # (Y, X, n)
    if outside is None:
        best = best.flatten(0, 1).T  # (n, Y*X)
    else:
        best = best.view(Y, X, *outside.shape[:2]).permute(2, 3, 0, 1) + outside.to(best.dtype)
        best = best.flatten(2).flatten(0, 1)
    if (missing := groups - Y * X) > 0:
        best = F.pad(best, (0, missing), value=-torch.inf)
    highest, group = best.topk(groups, dim=1, sorted=False)
    group.clamp_(max=Y * X - 1)
    query = torch.arange(n, device=cells.device)[:, None]
    first = (group + group // X * ((G - 1) * X)) * n + query  # (n, groups), where a group begins in `products`
    members = torch.arange(G, device=cells.device) * (X * n)
    scores = products.flatten()[first[:, :, None] + members]
    return scores.masked_fill_(highest.isneginf()[:, :, None], -torch.inf), group
