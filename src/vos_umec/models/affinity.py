"""The affinity between reference frames and a query frame, and the read-out along it (UMEC eq. 4)."""

import torch
from torch import Tensor


def affinity(keys_r: Tensor, keys_q: Tensor, tau: float = 0.05) -> Tensor:
    """A = softmax(I_r I_q^T / tau), over all pixels of all N references jointly, for each query pixel.

    Source: UMEC eq. 4; the axis is the references', so that every column of A sums to 1 and what is read out
    is a convex combination of what the references hold. The product follows autocast, the softmax is fp32.

    Args:
        keys_r: Unit-norm keys of the references (B, N, D, h, w).
        keys_q: Unit-norm keys of the query (B, D, h', w').
        tau: Temperature, above 0.

    Returns:
        A (B, N*h*w, h'*w'), fp32.

    Example:
        >>> import torch
        >>> A = affinity(torch.randn(1, 2, 4, 3, 3), torch.randn(1, 4, 3, 3))
        >>> tuple(A.shape), torch.allclose(A.sum(dim=1), torch.ones(1, 9))
        ((1, 18, 9), True)
    """
    r = keys_r.transpose(2, 1).flatten(2)  # (B, D, N*h*w)
    q = keys_q.flatten(2) / tau  # (B, D, h'*w'); far fewer divisions than of the scores
    scores = torch.einsum("bdr,bdq->bqr", r, q)  # the references last, where a softmax is fast
    return torch.softmax(scores.float(), dim=2).transpose(1, 2)  # (B, N*h*w, h'*w')


def read_out(A: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A^T V_r: what the references hold, carried to the query's grid (UMEC eq. 4 and 5).

    Args:
        A: Affinity (B, N*h*w, h'*w').
        values: Any maps on the references' grid (B, N, C, h, w): mask embeddings, masks, colours, keys.
        size: (h', w') of the query's grid.

    Returns:
        The values at the query's cells (B, C, h', w').

    Example:
        >>> import torch
        >>> A = affinity(torch.randn(1, 2, 4, 3, 3), torch.randn(1, 4, 3, 3))
        >>> torch.allclose(read_out(A, torch.ones(1, 2, 5, 3, 3), (3, 3)), torch.ones(1, 5, 3, 3))
        True
    """
    v = values.transpose(2, 1).flatten(2)  # (B, C, N*h*w)
    with torch.autocast(A.device.type, enabled=False):  # in bf16 0.998 is 1, whose logit has no slope
        out: Tensor = torch.einsum("bcr,brq->bcq", v.to(A.dtype), A).unflatten(2, size)
    return out
