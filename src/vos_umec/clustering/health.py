"""Figures that tell a healthy clustering from a degenerate one (UMEC section 1)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL = 0.005
"""Share of the cells under which a cluster counts as lost."""


@dataclass(frozen=True)
class SegmentHealth:
    """Health of one video's segments, all in [0, 1].

    Attributes:
        entropy: Entropy of the cluster sizes over log M; 1 for equal sizes, near 0 where one took everything.
        small: Share of the M clusters that hold under 0.5 % of the cells.
        consistency: Share of the cells that keep their label in the next frame; 1 for a single frame.
        position: Share of the objective that comes from the position code; near 1 the segments are tiles.
    """

    entropy: float
    small: float
    consistency: float
    position: float


def segment_health(labels: Tensor, keys: Tensor, positions: Tensor, M: int) -> SegmentHealth:
    """Measure a clustering.

    Args:
        labels: Cluster of each cell (T, h, w), integers in [0, M).
        keys: e_i, one row a cell (T*h*w, D).
        positions: lambda p_i, the weighted position code (T*h*w, d).
        M: Clusters.

    Returns:
        The four figures.

    Example:
        >>> labels = torch.tensor([[[0, 0, 1]], [[0, 1, 1]]])
        >>> health = segment_health(labels, torch.rand(6, 2), torch.zeros(6, 2), M=2)
        >>> health.entropy, health.small, round(health.consistency, 3), health.position
        (1.0, 0.0, 0.667, 0.0)
    """
    members = F.one_hot(labels.flatten(), M).to(keys.dtype)  # (n, M)
    share = members.mean(dim=0)  # (M,)
    entropy = torch.special.entr(share).sum() / torch.tensor(max(M, 2)).log()
    kept = (labels[1:] == labels[:-1]).float().mean() if len(labels) > 1 else torch.ones(())
    of_keys, of_positions = _scatter(keys, members), _scatter(positions, members)
    return SegmentHealth(
        entropy=round(entropy.item(), 6),
        small=(share < SMALL).float().mean().item(),
        consistency=kept.item(),
        position=of_positions / max(of_keys + of_positions, 1e-12),
    )


def _scatter(x: Tensor, members: Tensor) -> float:
    """Sum of the squared distances of the rows of x (n, d) to the mean of their cluster: all less that of means."""
    means_squared = (members.T @ x).square().sum(dim=1) / members.sum(dim=0).clamp(min=1)  # (M,), times their sizes
    return max(float(torch.linalg.vector_norm(x).square() - means_squared.sum()), 0.0)
