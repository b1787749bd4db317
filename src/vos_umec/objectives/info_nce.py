"""Contrastive matching of cells (InfoNCE), the form the two terms of equivariance take."""

import torch
from torch import Tensor


def info_nce(
    queries: Tensor,
    targets: Tensor,
    cells: Tensor,
    valid: Tensor,
    width: int,
    tau: float = 0.05,
    radius: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of finding each query's own target among the targets of all clips.

    L = - mean_i log( exp(x_i y_i / tau) / sum_j exp(x_i y_j / tau) ), j = i, the cells of the same clip farther
    than `radius` from i, and the cells of other clips. Nearer cells are left out: a small motion would make
    them positives. The products follow autocast, the rest is fp32.

    Args:
        queries: Unit vectors x (B, S, D).
        targets: Unit vectors y (B, S, D), y_i the match of x_i.
        cells: Flat grid index y * width + x of each pair (B, S).
        valid: (B, S) bool; pairs that are not valid serve neither as query nor as negative.
        width: Cells in a row of the grid.
        tau: Temperature.
        radius: Euclidean distance in cells up to which other cells of the clip are no negatives.

    Returns:
        The loss, 0 when no pair is valid, and the share of queries whose own target is the most similar.

    Example:
        >>> import torch
        >>> x = torch.eye(4).view(2, 2, 4)
        >>> loss, right = info_nce(x, x, torch.tensor([[0, 9], [0, 9]]), torch.ones(2, 2).bool(), width=4)
        >>> bool(loss < 1e-6), float(right)
        (True, 1.0)
    """
    B, S = valid.shape
    scores = torch.einsum("iad,jbd->iajb", queries, targets)  # (B, S, B, S)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) / tau
    row, column = torch.div(cells, width, rounding_mode="floor"), cells % width
    apart = (row[:, :, None] - row[:, None, :]).square() + (column[:, :, None] - column[:, None, :]).square()
    near = apart <= radius**2  # (B, S, S)
    near &= ~torch.eye(S, dtype=torch.bool, device=near.device)
    own = torch.eye(B, dtype=torch.bool, device=near.device)[:, None, :, None]  # (B, 1, B, 1)
    left_out = (own & near[:, :, None, :]) | ~valid
    # Finite, for a clip without a valid pair has rows where everything is left out.
    scores = scores.masked_fill(left_out, torch.finfo(scores.dtype).min).flatten(2).flatten(0, 1)  # (B*S, B*S)
    matched = scores.diagonal()
    loss = torch.where(valid.flatten(), scores.logsumexp(dim=1) - matched, 0.0)
    count = valid.sum().clamp(min=1)
    right = (scores.detach().argmax(dim=1) == torch.arange(B * S, device=scores.device)) & valid.flatten()
    return loss.sum() / count, right.sum() / count
