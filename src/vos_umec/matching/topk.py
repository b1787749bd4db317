"""The top-k affinity: exact, windowed, over all references at once (UMEC section 5)."""

from dataclasses import dataclass
from math import ceil, hypot

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.matching.search import Scratch, merge, search_all, search_window


@dataclass(frozen=True)
class TopK:
    """The best cells of all references for each query cell.

    Attributes:
        index: Position n*h*w + y*w + x of each chosen cell (h*w, k), int64, the highest score first.
        weight: Softmax over the scores of the k chosen cells (h*w, k), fp32; rows sum to 1.
        permanent: The best cells of the permanent references alone, which the search finds on its way; None where
            there are no such references.
    """

    index: Tensor
    weight: Tensor
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
    radius. Products are taken in the keys' own type, fp32 or bf16; scores are compared in fp32. The search
    needs about 60 MiB beside its result at radius 12, whatever the size of the grid and the number of references.

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
        scratch: Working memory, to be used again by the next call.
        window: "disc" for Euclidean distance, "square" for the larger one of those along rows and columns.

    Returns:
        Indices and weights.
    """
    N, h, w, _ = keys_r.shape
    scratch = Scratch() if scratch is None else scratch

    def search(first: int, last: int, k: int, reach: float | None) -> tuple[Tensor, Tensor]:
        if reach is None or reach > hypot(h, w):
            scores, index = search_all(key_q, keys_r[first:last], k)
        else:
            scores, index = search_window(key_q, keys_r[first:last], k, reach, scratch, window)
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
    alone = TopK(found[0][1], torch.softmax(found[0][0] / tau, dim=1)) if permanent > 0 else None
    scores, index = merge(found, top_k)
    return TopK(index, torch.softmax(scores / tau, dim=1), alone)


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
