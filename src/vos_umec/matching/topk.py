"""The windowed top-k read-out: exact, tile by tile, all references at once (UMEC section 5)."""

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
        weight: Softmax over what the k chosen cells are worth (h*w, k), fp32; rows sum to 1.
        anchors: The best cells of the anchors alone, which the search finds on its way; None where there are none.
    """

    index: Tensor
    weight: Tensor
    anchors: "TopK | None" = None


def top_k_affinity(
    key_q: Tensor,
    keys_r: Tensor,
    anchors: int,
    top_k: int = 10,
    tau: float = 0.05,
    radius: float | None = 12,
    permanent_radius: float | None = None,
    copies: int = 0,
    mutual: float | None = None,
    scratch: Scratch | None = None,
) -> TopK:
    """The affinity of inference: softmax over the k best cells of all references jointly.

    A cell of a reference frame counts if its Euclidean distance from the query's position is strictly below the
    frame's radius. Products are taken in the keys' own type, fp32 or bf16; scores are compared in fp32. Beside the
    result it needs about 60 MiB at radius 12, however large the grid and however many the references.

    Args:
        key_q: Unit-norm key of the query (h, w, D).
        keys_r: Unit-norm keys of the references (N, h, w, D), the anchors first.
        anchors: How many of the N are anchors (first frames of objects); 0 <= anchors <= N.
        top_k: k, cells kept for each query cell.
        tau: Temperature.
        radius: Window on the references that are not anchors, in cells; None for no window.
        permanent_radius: The same for the anchors.
        copies: How many more references, within `radius`, are the first anchor again. Each of its cells then has
            so many more places among the best; nothing is computed or held more than once.
        mutual: Temperature at which one-sided matches lose weight, above 0: query q weighs reference cell r by
            exp(s_qr / tau - (max_p s_pr - s_qr) / mutual), with p the query cells that chose r. What comes into
            view looks like something, too, but that something has its own likeness in the frame. Not in the paper;
            None for its softmax as it stands.
        scratch: Working memory from the last call; a reference memory has one.

    Returns:
        Indices and weights.

    Example:
        >>> import torch
        >>> keys = torch.nn.functional.normalize(torch.randn(3, 6, 7, 16), dim=-1)
        >>> best = top_k_affinity(keys[2], keys, anchors=1, top_k=1)
        >>> bool((best.index[:, 0] == 2 * 42 + torch.arange(42)).all())  # a frame matches itself best
        True
    """
    N, h, w, _ = keys_r.shape
    scratch = Scratch() if scratch is None else scratch

    def search(first: int, last: int, k: int, reach: float | None) -> tuple[Tensor, Tensor]:
        if reach is None or reach > hypot(h, w):
            scores, index = search_all(key_q, keys_r[first:last], k)
        else:
            scores, index = search_window(key_q, keys_r[first:last], k, reach, scratch)
        return scores, index + first * h * w

    found = []
    with torch.autocast(key_q.device.type, enabled=False):  # rounded scores would choose other cells
        if anchors > 0:
            found.append(search(0, anchors, top_k, permanent_radius))
        if anchors < N:
            found.append(search(anchors, N, top_k, radius))
        if anchors > 0 and copies > 0:
            times = min(copies, top_k)
            once = search(0, 1, ceil(top_k / times), radius)  # repeated, they fill all k places
            found.append((once[0].repeat_interleave(times, dim=1), once[1].repeat_interleave(times, dim=1)))
    of_anchors = TopK(found[0][1], torch.softmax(found[0][0] / tau, dim=1)) if anchors > 0 else None
    scores, index = merge(found, top_k)
    worth = scores / tau
    if mutual is not None:
        likeness = scores.new_full((N * h * w,), -1.0)  # of each cell in the query frame; no cosine is lower
        likeness.scatter_reduce_(0, index.flatten(), scores.flatten(), "amax")
        worth = worth - (likeness[index] - scores) / mutual
    return TopK(index, torch.softmax(worth, dim=1), of_anchors)


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
