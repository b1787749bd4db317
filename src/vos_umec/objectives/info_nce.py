"""Two contrastive losses: InfoNCE over matched cells, and cross-entropy over similarities in little memory."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from vos_umec.distributed import gather_batch

CPU_SCORES, OTHER_SCORES = 2**20, 2**26
"""Similarities held at once: what fits the cache of a CPU core; 256 MiB in fp32 elsewhere."""


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

    L = - mean_i log( exp(x_i y_i / tau) / sum_j exp(x_i y_j / tau) ), where j runs over i, the cells of other clips
    and the cells of the same clip farther than `radius` from i: nearer cells may show the same thing. The other
    clips are those of all processes, which call this together, each with as many clips. Products follow autocast,
    the rest is fp32. Source: InfoNCE, van den Oord et al. 2018, arXiv 1807.03748.

    Args:
        queries: Unit vectors x (B, S, D).
        targets: Unit vectors y (B, S, D), y_i the match of x_i.
        cells: Flat grid index y * width + x of each pair (B, S).
        valid: (B, S) bool; other pairs serve neither as query nor as negative.
        width: Cells in a row of the grid.
        tau: Temperature.
        radius: Euclidean distance in cells up to which other cells of the clip are no negatives.

    Returns:
        The loss, 0 when no pair is valid, and the fraction of queries whose own target is the most similar. Their
        mean over the processes is that over all valid pairs, and the same holds for gradients.
    """
    B, S = valid.shape
    targets, first = gather_batch(targets)  # (R*B, S, D)
    valid_targets, _ = gather_batch(valid)  # (R*B, S)
    clips = len(targets)
    scores = torch.einsum("iad,jbd->iajb", queries, targets)  # (B, S, R*B, S)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) / tau
    row, column = torch.div(cells, width, rounding_mode="floor"), cells % width
    apart = (row[:, :, None] - row[:, None, :]).square() + (column[:, :, None] - column[:, None, :]).square()
    near = apart <= radius**2  # (B, S, S)
    near &= ~torch.eye(S, dtype=torch.bool, device=near.device)
    clip = torch.arange(clips, device=near.device)
    own = (clip[first : first + B, None] == clip)[:, None, :, None]  # (B, 1, R*B, 1)
    left_out = (own & near[:, :, None, :]) | ~valid_targets
    # Finite instead of -inf: without a valid pair, everything in a row is left out.
    scores = scores.masked_fill(left_out, torch.finfo(scores.dtype).min).flatten(2).flatten(0, 1)  # (B*S, R*B*S)
    matched = scores.diagonal(offset=first * S)  # (B*S,)
    loss = torch.where(valid.flatten(), scores.logsumexp(dim=1) - matched, 0.0)
    count = valid_targets.sum().clamp(min=1) / (clips // B)  # mean over processes
    best = scores.detach().argmax(dim=1) - first * S
    right = (best == torch.arange(B * S, device=scores.device)) & valid.flatten()
    return loss.sum() / count, right.sum() / count


def matching_cross_entropy(x: Tensor, y: Tensor, labels: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """L = - mean_i log( exp(x_i y_l / tau) / sum_j exp(x_i y_j / tau) ), l = labels_i.

    The loss and its gradients are computed together, for some rows at a time, so that memory grows with n + A and
    not with n A. Products follow autocast, the softmax is fp32.

    Args:
        x: Vectors to classify (n, D).
        y: One vector a class (A, D).
        labels: Class of each row (n,), in [0, A).
        tau: Temperature, above 0.

    Returns:
        The loss, which can be differentiated once by x and y, and the fraction of rows whose own class is the most
        similar.
    """
    return _MatchingCrossEntropy.apply(x, y, labels, tau)  # type: ignore[no-any-return]


class _MatchingCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, y: Tensor, labels: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(x.dtype, torch.float32)
        scaled = (y / tau).T  # (D, A); dividing the few vectors is cheaper than dividing the many scores
        dx, dy = torch.empty_like(x), torch.zeros_like(y, dtype=precise)
        loss, right = x.new_zeros((), dtype=precise), x.new_zeros((), dtype=precise)
        rows = max(1, (CPU_SCORES if x.device.type == "cpu" else OTHER_SCORES) // len(y))
        for part, d, label in zip(x.split(rows), dx.split(rows), labels.split(rows), strict=True):
            scores = (part @ scaled).to(precise)  # (rows, A)
            own = label[:, None]
            right += (scores.gather(1, own)[:, 0] >= scores.amax(dim=1)).sum()
            log_p = scores.log_softmax(dim=1)
            loss -= log_p.gather(1, own).sum()
            slope = log_p.exp_().scatter_add_(1, own, log_p.new_full((1, 1), -1.0).expand_as(own))  # p - one hot
            d.copy_(slope @ scaled.T)
            dy += slope.T @ part
        ctx.save_for_backward(dx, dy / tau)
        n = max(len(x), 1)
        ctx.n = n  # type: ignore[attr-defined]
        accuracy = right / n
        ctx.mark_non_differentiable(accuracy)
        return loss / n, accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dx, dy = ctx.saved_tensors  # type: ignore[attr-defined]
        mean = grad / ctx.n  # type: ignore[attr-defined]
        return (dx * mean).to(dx.dtype), (dy * mean).to(dy.dtype), None, None
