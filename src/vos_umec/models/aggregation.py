"""Soft aggregation: one map over background and K objects from K separate masks (UMEC section 2, after STM)."""

import torch
from torch import Tensor

_ABSENT = -1e4  # a logit that is nothing after any softmax, yet finite, so that interpolation keeps it


def soft_aggregate(p: Tensor, valid: Tensor | None = None) -> Tensor:
    """Join K object probabilities: p_bg = prod_k (1 - p_k), then logits log(p / (1 - p)) for K + 1 channels.

    Args:
        p: Probabilities (B, K, H, W) in [0, 1].
        valid: (B, K) bool, which objects exist; None means all.

    Returns:
        Logits (B, K+1, H, W), fp32, channel 0 the background; a softmax over dimension 1 gives the map. The
        channel of an object that does not exist gets a logit of -10000 and leaves the background alone.

    Example:
        >>> import torch
        >>> probabilities = torch.softmax(soft_aggregate(torch.tensor([0.9, 0.2]).view(1, 2, 1, 1)), dim=1)
        >>> [round(p, 3) for p in probabilities.flatten().tolist()]
        [0.009, 0.964, 0.027]
    """
    p = p.float()
    if valid is not None:
        p = p * valid[:, :, None, None]
    background = (1 - p).prod(dim=1, keepdim=True)  # (B, 1, H, W)
    logits = torch.logit(torch.cat([background, p], dim=1), eps=1e-7)  # (B, K+1, H, W)
    if valid is not None:
        logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(~valid[:, :, None, None], _ABSENT)], dim=1)
    return logits
