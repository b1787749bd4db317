"""Contrastive losses: InfoNCE over matched cells, and cross-entropy among anchors, in little memory."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from vos_umec.distributed import gather_batch

CPU_SCORES, OTHER_SCORES = 2**20, 2**26
"""Similarities held at once: what fits the cache of a CPU core; 256 MiB in fp32 elsewhere."""


def info_nce(queries: Tensor, targets: Tensor, valid: Tensor, tau: float = 0.05) -> tuple[Tensor, Tensor]:
    """Cross-entropy of finding each query's own target among the targets of all clips.

    L = - mean_i log( exp(x_i y_i / tau) / sum_j exp(x_i y_j / tau) ), where j runs over the pairs of all clips.
    These are the clips of all processes, which call this together, each with as many. Products follow autocast, the
    rest is fp32. Source: InfoNCE, van den Oord et al. 2018, arXiv 1807.03748.

    Args:
        queries: Unit vectors x (B, S, D).
        targets: Unit vectors y (B, S, D), y_i the match of x_i.
        valid: (B, S) bool; other pairs serve neither as query nor as negative.
        tau: Temperature.

    Returns:
        The loss, 0 when no pair is valid, and the fraction of queries whose own target is the most similar. Their
        mean over the processes is that over all valid pairs, and the same holds for gradients.
    """
    B, S = valid.shape
    targets, first = gather_batch(targets)  # (R*B, S, D)
    valid_targets, _ = gather_batch(valid)  # (R*B, S)
    scores = queries.flatten(0, 1) @ targets.flatten(0, 1).T  # (B*S, R*B*S)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) / tau
    # Finite instead of -inf: without a valid pair, everything in a row is left out.
    scores = scores.masked_fill(~valid_targets.flatten(), torch.finfo(scores.dtype).min)
    matched = scores.diagonal(offset=first * S)  # (B*S,)
    loss = torch.where(valid.flatten(), scores.logsumexp(dim=1) - matched, 0.0)
    count = valid_targets.sum().clamp(min=1) / (len(targets) // B)  # mean over processes
    best = scores.detach().argmax(dim=1) - first * S
    right = (best == torch.arange(B * S, device=scores.device)) & valid.flatten()
    return loss.sum() / count, right.sum() / count


def anchor_cross_entropy(students: Tensor, teachers: Tensor, anchors: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Classify cells among the anchors of the clips of all processes.

    The teacher labels each cell with the anchor of its own clip that is most similar, without gradient.

    Args:
        students: Unit-norm keys of F frames of each clip (B, F, D, h, w), to be classified.
        teachers: Those that give the labels (B, F, D, h, w).
        anchors: Unit vectors (B, A, D).
        tau: Temperature.

    Returns:
        The cross-entropy, and the fraction of cells that agree with their label.
    """
    B, A = anchors.shape[:2]
    all_anchors, first = gather_batch(anchors)  # (R*B, A, D)
    with torch.no_grad():
        own = torch.einsum("bfdhw,bad->bfhwa", teachers, anchors).argmax(dim=-1)  # (B, F, h, w)
        labels = own + A * torch.arange(first, first + B, device=own.device).view(B, 1, 1, 1)
    rows = students.permute(0, 1, 3, 4, 2).flatten(0, 3)  # (B*F*h*w, D)
    return matching_cross_entropy(rows, all_anchors.flatten(0, 1), labels.flatten(), tau)


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
