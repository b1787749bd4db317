"""What tells a right match from a wrong one, for each cell that is read out of memory."""

import torch
from torch import Tensor

from vos_umec.matching.dense import readout
from vos_umec.matching.topk import TopK, gather_values

EVIDENCE = 4
"""Channels of the evidence."""


def match_evidence(best: TopK, masks: Tensor, permanent: int, tau: float) -> Tensor:
    """How sure a read-out is, cell by cell, as input of the decoder.

    What comes into view matches nothing well, so its best cell is far; an object's own cells have a near one. And
    the first frame, the only one whose mask is known, may disagree with later ones, whose masks may have drifted.

    Args:
        best: The best cells.
        masks: Soft masks of the references (N, h, w, K), the permanent ones first.
        permanent: How many references are permanent, at least 1.
        tau: Temperature of the affinity.

    Returns:
        (h*w, K, 4) fp32. The distance of the best cell; that of the best permanent one, both as
        log(1 + (1 - cosine) / tau); the weight that permanent references have; and the mask by those alone.
    """
    if best.permanent is None:
        raise ValueError("the evidence needs a permanent reference; found none among the best cells")
    in_permanent = best.index < permanent * masks.shape[1] * masks.shape[2]
    weight = torch.where(in_permanent, best.weight, 0.0).sum(dim=1)  # (h*w,)
    nearest, first = (_distance(cells.score[:, 0], tau) for cells in (best, best.permanent))
    frame = torch.stack((nearest, first, weight), dim=1)  # (h*w, 3)
    vote = gather_values(best.permanent, masks).float()  # (h*w, K)
    return torch.cat((frame[:, None].expand(-1, masks.shape[-1], -1), vote[:, :, None]), dim=2)


def evidence_of_all_cells(A: Tensor, keys_r: Tensor, key_q: Tensor, first: Tensor, tau: float) -> Tensor:
    """The same for a read-out of all cells, of a batch of clips.

    Args:
        A: Affinity (B, N*h*w, h*w).
        keys_r: Unit-norm keys of the references (B, N, D, h, w), the permanent one first.
        key_q: Unit-norm keys of the query (B, D, h, w).
        first: Soft masks of the permanent reference (B, K, h, w).
        tau: Temperature of the affinity.

    Returns:
        (B, K, 4, h, w) fp32.
    """
    size, K = (key_q.shape[-2], key_q.shape[-1]), first.shape[1]
    scores = torch.einsum("bndr,bdq->bnrq", keys_r.flatten(3), key_q.flatten(2)).float().amax(dim=2)  # (B, N, h*w)
    of_first = A[:, : size[0] * size[1]]  # (B, h*w, h*w)
    weight = of_first.sum(dim=1)  # (B, h*w)
    frame = torch.stack((_distance(scores.amax(dim=1), tau), _distance(scores[:, 0], tau), weight), dim=1)
    vote = readout(of_first / weight[:, None].clamp(min=1e-12), first[:, None], size)  # (B, K, h, w)
    return torch.cat((frame.unflatten(2, size)[:, None].expand(-1, K, -1, -1, -1), vote[:, :, None]), dim=2)


def _distance(cosine: Tensor, tau: float) -> Tensor:
    return torch.log1p((1 - cosine).clamp(min=0, max=2) / tau)  # cells not searched for have a cosine of -inf
