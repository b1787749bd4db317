"""The top-k affinity: exact, windowed, over all references at once (UMEC section 5)."""

from dataclasses import dataclass
from math import ceil, hypot

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.matching.bands import search_all_in_bands, search_window_in_bands
from vos_umec.matching.search import Scratch, merge, search_all, search_window

_TILED = ("cpu",)  # devices on which small products are quick; elsewhere the search goes by bands
_HALF = ("cuda",)  # where its products of fp32 keys are in fp16, at many times the speed


@dataclass(frozen=True)
class TopK:
    """The best cells of all references for each query cell.

    Attributes:
        index: Position n*h*w + y*w + x of each chosen cell (h*w, k), int64, the highest score first.
        weight: Softmax over the scores of the k chosen cells (h*w, k), fp32; rows sum to 1.
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
) -> TopK:
    """The affinity of inference: softmax over the k best cells of all references jointly.

    A cell of a reference frame counts if its distance from the query's position is strictly below the frame's
    radius. Products are taken in the keys' own type, fp32 or bf16; scores are compared in fp32. On CUDA products of
    fp32 keys are first taken in fp16, to choose 2 k + 12 cells a query, and those of the chosen ones again in fp32;
    see `matching/bands.py` for how exact this is. Beside its result the search needs about 60 MiB at radius 12 on a
    CPU, whatever the size of the grid and the number of references; elsewhere 0.5 GiB and a copy of a part of the
    keys.

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

    Returns:
        Indices and weights.
    """
    N, h, w, _ = keys_r.shape
    scratch = Scratch() if scratch is None else scratch
    tiled = key_q.device.type in _TILED
    half = key_q.device.type in _HALF and key_q.dtype == torch.float32

    def search(first: int, last: int, k: int, reach: float | None) -> tuple[Tensor, Tensor]:
        keys = keys_r[first:last]
        if reach is None or reach > hypot(h, w):
            scores, index = search_all(key_q, keys, k) if tiled else search_all_in_bands(key_q, keys, k, half)
        elif tiled:
            scores, index = search_window(key_q, keys, k, reach, scratch, window)
        else:
            scores, index = search_window_in_bands(key_q, keys, k, reach, half, window)
        return scores, index + first * h * w

    found = []
    with torch.autocast(key_q.device.type, enabled=False):  # rounded scores would choose other cells
        if permanent > 0:
            found.append(search(0, permanent, top_k, permanent_radius))
        if permanent < N:
            found.append(search(permanent, N, top_k, radius))
        if permanent > 0 and copies > 0:
            times = min(copies, top_k)
            once = search(0, 1, ceil(top_k / times), radius)  # repeated, they fill all k places
            found.append((once[0].repeat_interleave(times, dim=1), once[1].repeat_interleave(times, dim=1)))
    alone = _weighted(*found[0], tau) if permanent > 0 else None
    return _weighted(*merge(found, top_k), tau, alone)


def _weighted(scores: Tensor, index: Tensor, tau: float, permanent: TopK | None = None) -> TopK:
    return TopK(index, torch.softmax(scores / tau, dim=1), scores, permanent)


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
