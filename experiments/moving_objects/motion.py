"""Which cells move on their own: matches of keys, the motion of the whole picture, evidence against it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 9
"""Reach of the matches in cells, along rows and columns."""
_SIDE = 2 * RADIUS + 1
EVERY = 4
"""Frames from one frame that evidence is made for to the next."""
_TILE = 8  # cells; the query is matched in tiles, as in vos_umec.matching.dense
_BEST = 5  # matches whose mean place is the flow
_SHARPNESS = 20.0  # of the softmax over their scores
_OUTSIDE = -1.0  # score of cells beyond the frame
_FIT_SCALES = (4.0, 2.0, 1.0, 1.0, 1.0, 0.7, 0.7, 0.7)  # cells; residuals well above are outliers, step by step


@dataclass(frozen=True)
class Motion:
    """What the matches from one frame to another tell.

    Attributes:
        evidence: (h, w), best score of each cell minus the best one near the place where the motion of the whole
            picture would put it; 0 where that place cannot be seen.
        residual: Median distance, in cells, between the flow and the motion of the whole picture.
    """

    evidence: Tensor
    residual: float


def motion_between(keys: Tensor, others: Tensor) -> Motion:
    """Evidence that cells of one frame move on their own on the way to another frame.

    Args:
        keys: Unit-norm keys of the frame (D, h, w).
        others: Those of the other frame (D, h, w).
    """
    scores = _window_scores(keys, others)  # (h*w, _SIDE^2)
    best, flow = _flow(scores)  # (h*w,), (h*w, 2)
    background = _background(flow, (keys.shape[1], keys.shape[2]))  # (h*w, 2)
    residual = torch.linalg.vector_norm(flow - background, dim=1).median()
    evidence = best - _score_near(scores, background, best)
    return Motion(evidence.view(keys.shape[1:]), float(residual))


def moving_evidence(keys_of: Callable[[int], Tensor], frames: int, step: int) -> Iterator[tuple[int, Motion]]:
    """The evidence of some frames of a clip: the lower one of both directions in time, cleaned by a median.

    What is uncovered or covered up has no match in one direction, and is not taken for moving. The middle of the
    clip comes first, which often tells enough.

    Args:
        keys_of: Gives the keys (D, h, w) of a frame by its number.
        frames: T, frames of the clip.
        step: Frames from a frame to the two that it is compared with.

    Yields:
        Number of a frame, its evidence (h, w), and the mean residual of its two comparisons.
    """
    centres = range(step, frames - step, EVERY)
    for t in sorted(centres, key=lambda t: abs(2 * t - frames)):
        before, after = (motion_between(keys_of(t), keys_of(s)) for s in (t - step, t + step))
        evidence = _median(torch.minimum(before.evidence, after.evidence))
        yield t, Motion(evidence, (before.residual + after.residual) / 2)


def _window_scores(keys: Tensor, others: Tensor) -> Tensor:
    """Score of each cell with the cells in a square window around its place, (h*w, _SIDE^2)."""
    D, h, w = keys.shape
    rows, columns = -(-h // _TILE), -(-w // _TILE)
    below, beside = rows * _TILE - h, columns * _TILE - w
    seen = _TILE + 2 * RADIUS
    q = F.pad(keys, (0, beside, 0, below)).unfold(1, _TILE, _TILE).unfold(2, _TILE, _TILE)
    q = q.permute(1, 2, 3, 4, 0).reshape(rows * columns, _TILE**2, D)
    around = F.pad(others, (RADIUS, RADIUS + beside, RADIUS, RADIUS + below))
    around = around.unfold(1, seen, _TILE).unfold(2, seen, _TILE).permute(1, 2, 0, 3, 4).reshape(-1, D, seen**2)
    inside = F.pad(torch.ones(h, w), (RADIUS, RADIUS + beside, RADIUS, RADIUS + below))
    inside = inside.unfold(0, seen, _TILE).unfold(1, seen, _TILE).reshape(-1, 1, seen**2) > 0
    scores = (q @ around).masked_fill(~inside, _OUTSIDE)  # (tiles, _TILE^2, seen^2)
    # The window of cell (i, j) of a tile begins at row i, column j of what the tile sees.
    size = (rows * columns, _TILE, _TILE, _SIDE, _SIDE)
    strides = (_TILE**2 * seen**2, _TILE * seen**2 + seen, seen**2 + 1, seen, 1)
    windows = scores.as_strided(size, strides).view(rows, columns, _TILE, _TILE, _SIDE, _SIDE)
    windows = windows.transpose(1, 2).reshape(rows * _TILE, columns * _TILE, _SIDE**2)
    return windows[:h, :w].reshape(h * w, _SIDE**2)


def _flow(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best score of each cell, and the mean displacement (x, y) of its best matches in cells."""
    top = scores.topk(_BEST, dim=1)
    weights = (top.values * _SHARPNESS).softmax(dim=1)  # (h*w, _BEST)
    places = torch.stack((top.indices % _SIDE, top.indices // _SIDE), dim=-1) - RADIUS  # (h*w, _BEST, 2)
    return top.values[:, 0], (weights[..., None] * places).sum(dim=1)


def _background(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """The motion of the whole picture, quadratic in x and y, by re-weighted least squares; (h*w, 2) as the flow."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in size), indexing="ij")
    y, x = y.flatten(), x.flatten()
    basis = torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y), dim=1).double()  # (h*w, 6)
    target, fitted = flow.double(), flow.median(dim=0).values.double().expand_as(flow)
    for scale in _FIT_SCALES:
        distance = (target - fitted).square().sum(dim=1, keepdim=True)
        weights = (1 + distance / scale**2) ** -2  # Geman and McClure's: outliers count for nothing
        normal = basis.T @ (weights * basis) + 1e-6 * torch.eye(6, dtype=torch.float64)
        fitted = basis @ torch.linalg.solve(normal, basis.T @ (weights * target))
    return fitted.float()


def _score_near(scores: Tensor, place: Tensor, otherwise: Tensor) -> Tensor:
    """The best score within one cell of a displacement (h*w, 2); `otherwise` where it cannot be seen."""
    x, y = place.round().long().unbind(dim=1)
    inside = torch.maximum(x.abs(), y.abs()) < RADIUS  # with a cell to each side
    index = (y.clamp(1 - RADIUS, RADIUS - 1) + RADIUS) * _SIDE + x.clamp(1 - RADIUS, RADIUS - 1) + RADIUS
    near = torch.tensor([dy * _SIDE + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    best = scores.gather(1, index[:, None] + near).amax(dim=1)
    return torch.where(inside & (best > _OUTSIDE), best, otherwise)


def _median(evidence: Tensor) -> Tensor:
    """Median of 3 x 3 cells of a map (h, w)."""
    padded = F.pad(evidence[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    return padded.unfold(0, 3, 1).unfold(1, 3, 1).flatten(2).median(dim=-1).values
