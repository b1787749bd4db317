"""Space-time segments from a video's keys (UMEC eq. 1), and figures that tell good segments from bad ones."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vos_umec.clustering.kmeans import kmeans, squared_distances
from vos_umec.errors import ConfigError

SMALL = 0.005
"""A cluster with a smaller fraction of the cells counts as small."""
FRAMES_AT_ONCE = 8
"""Frames whose distances are held at full resolution: 65 MB at 480p with M = 5."""
PERIODS = (2.0, 1.0)
"""In lengths of an axis. Along half of the longer one, cells that are farther apart always differ more."""


def position_code_3d(T: int, h: int, w: int, device: torch.device | str | None = None) -> Tensor:
    """Encode each cell's (t, y, x) as a vector of unit norm.

    t, y and x each get a pair (sin, cos) of period 2 and one of period 1. Coordinates are those of cell centers: t
    is divided by T, y and x by the longer side, so that a step down counts as much as a step to the right. The
    squared distance of two cells depends on their difference (dt, dy, dx) alone: 1/3 of the sum over axes and
    periods P of 1 - cos(2 pi d / P).

    The paper names a "3D sinusoidal position encoding vector" without a formula; this one is our choice.

    Args:
        T: Frames.
        h: Rows of the feature grid.
        w: Columns of the feature grid.
        device: Where to put the code.

    Returns:
        (T, h, w, 12) float32, unit norm over the last axis.
    """
    side = max(h, w)
    code = []
    for axis, (cells, length) in enumerate(((T, T), (h, side), (w, side))):
        center = (torch.arange(cells, dtype=torch.float32, device=device) + 0.5) / length  # (cells,) in (0, 1)
        angles = [2 * math.pi / period * center for period in PERIODS]  # (cells,) each
        waves = torch.stack([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=-1)  # (cells, 4)
        shape = [1, 1, 1, 4]
        shape[axis] = cells
        code.append(waves.view(shape).expand(T, h, w, 4))
    return torch.cat(code, dim=-1) / math.sqrt(6)  # each of the 6 pairs has norm 1


@dataclass(frozen=True)
class SegmentHealth:
    """Health of one video's segments; every figure is in [0, 1].

    Attributes:
        entropy: Entropy of the cluster sizes divided by log M: 1 for equal sizes, near 0 where one cluster has all.
        small: Fraction of the M clusters that hold less than 0.5 % of the cells each.
        consistency: Fraction of the cells that keep their label in the next frame; 1 for a single frame.
        position: Fraction of the objective that comes from the position code; near 1 the segments are plain tiles.
    """

    entropy: float
    small: float
    consistency: float
    position: float


@dataclass(frozen=True)
class SegmentsResult:
    """Segments of one video.

    Attributes:
        segments: (T, H, W) uint8, 0 for the largest segment to M - 1 for the smallest.
        health: Their health.
    """

    segments: NDArray[np.uint8]
    health: SegmentHealth


class SpaceTimeClusterer:
    """Partition a video into M space-time segments (UMEC eq. 1).

    Each cell i of each frame is the point x_i = [e_i ; lambda p_i], e_i its unit-norm key and p_i its unit-norm
    position code. The distances to the M centroids are upsampled, then each pixel takes the nearest centroid, so
    that borders are smooth.

    On 11 real clips and keys of a short training, position was 1, 5, 16, 36 and 65 % of the objective at lambda
    0.1, 0.25, 0.5, 1 and 2. Up to 0.25 it changed little; 0.5 removed a third of the scattered pieces; from 1 on
    the segments were tiles. The keys of an untrained network hardly differ, and give tiles at 0.5 already.

    Args:
        clusters: M, 2 to 254.
        position_weight: lambda, at least 0.

    Raises:
        ConfigError: If a setting is out of range.

    Example:
        >>> keys = torch.zeros(3, 2, 4, 6)  # (T, D, h, w)
        >>> keys[:, 0, :, :4], keys[:, 1, :, 4:] = 1, 1  # left two thirds, right third
        >>> result = SpaceTimeClusterer(clusters=2)(keys, output_size=(16, 24), seed=0)
        >>> result.segments.shape, result.segments[0, 0, ::4].tolist(), result.health.consistency
        ((3, 16, 24), [0, 0, 0, 0, 1, 1], 1.0)
    """

    def __init__(self, clusters: int = 5, position_weight: float = 0.5) -> None:
        if not 2 <= clusters <= 254:
            raise ConfigError(f"clusters is {clusters}; expected 2 to 254, since 255 marks unknown pixels")
        if position_weight < 0:
            raise ConfigError(f"position_weight is {position_weight}; expected 0 or more")
        self.clusters = clusters
        self.position_weight = position_weight

    def __call__(self, keys: Tensor, output_size: tuple[int, int], seed: int) -> SegmentsResult:
        """Cluster one video.

        Args:
            keys: Keys of the encoder (T, D, h, w), unit norm over D.
            output_size: (H, W) of the segments.
            seed: Seed of k-means; see `video_seed`.

        Returns:
            Segments and their health.

        Raises:
            DataError: If there are fewer cells than clusters, or keys that are not finite.
            MissingDependencyError: If faiss is not installed.
        """
        T, D, h, w = keys.shape
        with torch.autocast(keys.device.type, enabled=False):  # half precision turns near ties into noise
            e = keys.detach().float().permute(0, 2, 3, 1).reshape(-1, D)  # (n, D), n = T*h*w
            p = self.position_weight * position_code_3d(T, h, w, keys.device).flatten(0, 2)  # (n, 12)
            x = torch.cat((e, p), dim=1)  # (n, D + 12)
            found = kmeans(x, self.clusters, seed)

            # Number the segments by size, so that colors mean the same in every picture.
            sizes = F.one_hot(found.labels, self.clusters).sum(dim=0)  # (M,)
            order = sizes.argsort(descending=True, stable=True)
            centroids = found.centroids.index_select(0, order).to(x)  # (M, d)
            labels = order.argsort().index_select(0, found.labels).to(x.device).view(T, h, w)
            health = segment_health(labels, e, p, self.clusters)
            distances = squared_distances(x, centroids).view(-1, T, h, w).transpose(0, 1)  # (T, M, h, w)
        parts = [  # by min, because on a CPU argmin takes eight times as long
            F.interpolate(chunk, size=output_size, mode="bilinear", align_corners=False).min(dim=1).indices.byte()
            for chunk in distances.split(FRAMES_AT_ONCE)
        ]
        return SegmentsResult(torch.cat(parts).cpu().numpy(), health)


def segment_health(labels: Tensor, keys: Tensor, positions: Tensor, M: int) -> SegmentHealth:
    """Measure a clustering.

    Args:
        labels: Cluster of each cell (T, h, w), integers in [0, M).
        keys: e_i, one row a cell (T*h*w, D).
        positions: lambda p_i, the weighted position code (T*h*w, d).
        M: Number of clusters.
    """
    members = F.one_hot(labels.flatten(), M).to(keys.dtype)  # (n, M)
    sizes = members.mean(dim=0)  # (M,) as fractions
    entropy = torch.special.entr(sizes).sum() / math.log(max(M, 2))
    small = (sizes < SMALL).float().mean()
    kept = (labels[1:] == labels[:-1]).float().mean() if len(labels) > 1 else torch.ones_like(small)
    of_keys, of_positions = _scatter(keys, members), _scatter(positions, members)
    position = of_positions / (of_keys + of_positions).clamp(min=1e-12)
    figures = torch.stack((entropy, small, kept, position)).tolist()  # at once: the host waits for a GPU here
    return SegmentHealth(round(figures[0], 6), *figures[1:])


def _scatter(x: Tensor, members: Tensor) -> Tensor:
    """Sum of the squared distances of points (n, d) to the mean of their cluster, ()."""
    of_means = (members.T @ x).square().sum(dim=1) / members.sum(dim=0).clamp(min=1)  # (M,) size times squared norm
    total: Tensor = torch.linalg.vector_norm(x).square()
    return (total - of_means.sum()).clamp(min=0)
