"""The top-k affinity: exact, windowed, over all references at once (UMEC section 5)."""

from dataclasses import dataclass, replace
from math import ceil, hypot

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.matching.bands import search_all_in_bands, search_window_in_bands
from vos_umec.matching.coarse_to_fine import compare_inside, halve_keys, halve_wanted, window_cases
from vos_umec.matching.search import Scratch, merge, search_all, search_window

_TILED = ("cpu",)  # devices on which small products are quick; elsewhere the search goes by bands
_POOL = 8  # from coarse to fine, coarse cells that are looked at for each one that is taken
_HALF = ("cuda",)  # where its products of fp32 keys are in fp16, at many times the speed


@dataclass(frozen=True)
class TopK:
    """The best cells of all references for each query cell.

    Attributes:
        index: Position n*h*w + y*w + x of each chosen cell (h*w, k), int64, the highest score first.
        weight: Softmax over the scores of the k chosen cells (h*w, k), fp32; rows sum to 1,
            but for those of cells that were not searched for or found nothing, which are 0.
        score: Cosine similarity of each chosen cell to the query (h*w, k), fp32; -inf where there are fewer than k.
        permanent: The best cells of the permanent references alone, which the search finds on its way; None where
            there are no such references.
    """

    index: Tensor
    weight: Tensor
    score: Tensor
    permanent: "TopK | None" = None


def top_k_affinity(
    key_q: Tensor,
    keys_r: Tensor,
    permanent: int,
    top_k: int = 10,
    tau: float = 0.05,
    radius: float | None = 12,
    permanent_radius: float | None = None,
    copies: int = 0,
    scratch: Scratch | None = None,
    window: str = "disc",
    coarse_to_fine: int | None = None,
    halved: Tensor | None = None,
    wanted: Tensor | None = None,
) -> TopK:
    """The affinity of inference: softmax over the k best cells of all references jointly.

    A cell of a reference frame counts if its distance from the query's position is strictly below the frame's
    radius. Products are taken and compared in the references' own type, fp32 or bf16, without gradient. On CUDA
    products of fp32 keys are first taken in fp16, to choose 2 k + 12 cells a query, and those of the chosen ones
    again in fp32; see `matching/bands.py` for how exact this is. Beside its result the search needs about 60 MiB
    at radius 12 on a CPU, whatever the size of the grid and the number of references; elsewhere 0.5 GiB and a copy
    of a part of the keys.

    Args:
        key_q: Unit-norm key of the query (h, w, D).
        keys_r: Unit-norm keys of the references (N, h, w, D), the permanent ones first.
        permanent: How many of the N are permanent (frames with a prompt); 0 <= permanent <= N.
        top_k: k, cells kept for each query cell.
        tau: Temperature.
        radius: Window on the references that are not permanent, in cells; None for no window.
        permanent_radius: The same for the permanent ones.
        copies: How many times the first permanent reference is repeated, within `radius`. Each of its cells then
            has so many more places among the best; nothing is computed or held more than once.
        scratch: Working memory of a CPU, to be used again by the next call.
        window: "disc" for Euclidean distance, "square" for the larger one of those along rows and columns.
        coarse_to_fine: Compare only the cells inside so many best coarse cells of all references, see
            `matching/coarse_to_fine.py`; None to compare all.
        halved: Keys of the references at half the size, of `halve_keys`, if they are there already.
        wanted: Query cells to search for (h, w) bool; None for all. The weights of other cells are 0.

    Returns:
        Indices and weights.
    """
    N = len(keys_r)
    scratch = Scratch() if scratch is None else scratch
    tiled = key_q.device.type in _TILED
    asked = wanted if tiled else None  # in bands all are found: which are wanted would have to be waited for
    queries, references, places = key_q.to(keys_r.dtype), keys_r, top_k  # what is searched first
    if coarse_to_fine is not None:
        queries, references = halve_keys(key_q[None])[0], halve_keys(keys_r) if halved is None else halved
        places = coarse_to_fine
        asked = None if asked is None else halve_wanted(asked)

    queries = queries.to(references.dtype)  # references may come from where another type is quick

    def search(first: int, last: int, k: int, reach: float | None) -> tuple[Tensor, Tensor]:
        keys = references[first:last]
        h, w = keys.shape[1:3]
        half = keys.device.type in _HALF and keys.dtype == torch.float32
        if reach is not None and coarse_to_fine is not None:
            reach /= 2
        if reach is None or reach > hypot(h, w):
            found = search_all(queries, keys, k, asked) if tiled else search_all_in_bands(queries, keys, k, half)
        elif tiled:
            pool = None if coarse_to_fine is None else _POOL * k
            found = search_window(queries, keys, k, reach, scratch, window, asked, pool)
        else:
            found = search_window_in_bands(queries, keys, k, reach, half, window)
        return found[0], found[1] + first * h * w

    def cases(reach: float | None) -> Tensor | None:
        grid = (key_q.shape[0], key_q.shape[1])
        return None if coarse_to_fine is None else window_cases((reach, radius), grid, window, key_q.device)

    def finest(found: tuple[Tensor, Tensor], k: int, near: Tensor | None) -> tuple[Tensor, Tensor]:
        return found if near is None else compare_inside(key_q, keys_r, *found, k, permanent, near, asked)

    found = []
    # Autocast would round scores and choose other cells.
    with torch.no_grad(), torch.autocast(key_q.device.type, enabled=False):
        if permanent > 0:
            found.append(search(0, permanent, places, permanent_radius))
        if permanent < N:
            found.append(search(permanent, N, places, radius))
        alone, near = None, cases(permanent_radius)
        if permanent > 0:
            few = found[0][0][:, :top_k], found[0][1][:, :top_k]
            alone = _weighted(*finest(few, top_k, near), tau, wanted)
        best = finest(merge(found, places), top_k, near)
        if permanent > 0 and copies > 0:
            times = min(copies, top_k)
            k = ceil(top_k / times)  # repeated, they fill all k places
            once = finest(search(0, 1, k if coarse_to_fine is None else places, radius), k, cases(radius))
            repeated = once[0].repeat_interleave(times, dim=1), once[1].repeat_interleave(times, dim=1)
            best = merge([best, repeated], top_k)
    return replace(_weighted(*best, tau, wanted), permanent=alone)


def _weighted(scores: Tensor, index: Tensor, tau: float, wanted: Tensor | None) -> TopK:
    nothing = scores[:, :1].isneginf()  # the best comes first; a softmax of nothing is NaN
    weight = torch.softmax(scores / tau, dim=1).masked_fill(nothing, 0)
    if wanted is not None:
        unwanted = ~wanted.flatten()[:, None]
        weight, scores = weight.masked_fill(unwanted, 0), scores.masked_fill(unwanted, -torch.inf)
    return TopK(index, weight, scores)


def gather_values(best: TopK, values: Tensor) -> Tensor:
    """The weighted sum of the chosen cells' values: A^T V_r where A is sparse.

    Args:
        best: Indices and weights of the chosen cells.
        values: Any values on the references' cells (N, h, w, C).

    Returns:
        Values at the query's cells (h*w, C).
    """
    return F.embedding_bag(
        best.index, values.flatten(0, 2), per_sample_weights=best.weight.to(values.dtype), mode="sum"
    )


def cell_weights(best: TopK, cell: tuple[int, int], grid: tuple[int, int], references: int) -> Tensor:
    """Where one query cell reads: its weights, laid out over the references.

    Args:
        best: Indices and weights of the chosen cells.
        cell: Row and column of the query cell.
        grid: (h, w) of the query and of the references.
        references: N.

    Returns:
        (N, h, w) fp32. The sum is 1; it is 0 if the cell was not searched for or found nothing.

    Raises:
        ConfigError: The cell is outside the grid, or `best` is of another grid.

    Example:
        >>> best = TopK(index=torch.tensor([[0, 3], [1, 1]]), weight=torch.tensor([[0.75, 0.25], [1.0, 0.0]]),
        ...     score=torch.zeros(2, 2))
        >>> cell_weights(best, cell=(0, 0), grid=(1, 2), references=2).tolist()
        [[[0.75, 0.0]], [[0.0, 0.25]]]
    """
    (row, column), (h, w) = cell, grid
    if not (0 <= row < h and 0 <= column < w) or len(best.index) != h * w:
        raise ConfigError(
            f"cell {cell} (row, column) of a grid {grid} with best cells for {len(best.index)} query cells: "
            "expected a cell of the grid, and one row of best cells for each of its cells"
        )
    index, weight = best.index[row * w + column], best.weight[row * w + column]
    spread = weight.new_zeros(references * h * w).scatter_add(0, index, weight)  # a cell may be chosen twice
    return spread.view(references, h, w)
