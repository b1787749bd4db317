"""k-means over all points of a video, seeded and restarted (UMEC eq. 1): by faiss on a CPU, by torch on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from vos_umec.errors import ConfigError, DataError, MissingDependencyError

# Measured on 10 feature grids of real videos (46,000 to 82,000 points, M = 5, 8 seeds): these settings end 0.14 %
# above the best objective known (worst 1.5 %), one start on all points 1.2 % (worst 9.9 %). More starts, points or
# iterations gained nothing. k-means++ is needed to find a small cluster far from all others, and is done here
# because only the latest releases of faiss have it.
STARTS, START_POINTS, START_ITERATIONS = 8, 2048, 10
SAMPLE, ITERATIONS = 16_384, 7  # for the best start, before the pass over all points
CPU_ROWS, OTHER_ROWS = 4096, 2**20
"""Points that a pass in torch takes at a time. On a CPU more would overflow its caches."""


@dataclass(frozen=True)
class KMeansResult:
    """The result of k-means; tensors are on CUDA if the points are there, otherwise on the CPU.

    Attributes:
        centroids: (M, d) float32.
        labels: (n,) int64 in [0, M), the nearest centroid of each point.
        inertia: () float64, sum over the points of the squared distance to their centroid.
    """

    centroids: Tensor
    labels: Tensor
    inertia: Tensor


def kmeans(x: Tensor, M: int, seed: int) -> KMeansResult:
    """Minimize sum_i ||x_i - C s_i||^2: several starts on a sample of the points, then one pass over all of them.

    The objective is as low as that of k-means over all points, in a fraction of its time; a cluster of less than
    one point in a thousand may be missed. The same points and seed give the same bits on the same device, on a CPU
    whatever the number of threads. A cluster is empty only where there are fewer than M different points.

    The starts run by faiss, or on CUDA by torch, all at once. Both begin from the same seeds.

    Args:
        x: Points (n, d) float32, n >= M, on any device.
        M: Number of clusters, at least 1.
        seed: Seed of the starts, at least 0.

    Returns:
        Centroids, labels and the objective.

    Raises:
        DataError: If there are fewer points than clusters, or a value is not finite.
        ConfigError: If M is below 1.
        MissingDependencyError: If faiss is not installed and the points are not on CUDA.

    Example:
        >>> x = torch.tensor([[0.0, 0], [0, 1], [9, 0], [9, 1]])
        >>> result = kmeans(x, M=2, seed=0)
        >>> result.inertia.item(), bool(result.labels[0] == result.labels[1] != result.labels[2])
        (1.0, True)
    """
    if M < 1:
        raise ConfigError(f"k-means with {M} clusters; expected at least 1")
    if x.ndim != 2 or len(x) < M:
        shape = tuple(x.shape)
        raise DataError(f"k-means of points {shape}; expected (n, d) with n at least {M}, the number of clusters")
    if not x.sum().isfinite():  # on a CPU x.isfinite() takes many times as long
        raise DataError("k-means of points that are not all finite; look for NaN or infinity in the features")
    if not x.is_cuda:
        x = x.cpu()
    rng = np.random.default_rng(seed)
    sample = _drawn(x, SAMPLE, rng)
    few = _drawn(sample, START_POINTS, rng)
    seeds = _plus_plus(few, M, STARTS, rng)  # (STARTS, M, d)
    centroids = _by_torch(few, sample, seeds) if x.is_cuda else _by_faiss(few, sample, seeds, seed)
    return _finish(x, centroids)


def _drawn(x: Tensor, number: int, rng: np.random.Generator) -> Tensor:
    """Some of the points (n, d) without repeats; all of them if there are no more."""
    if len(x) <= number:
        return x
    drawn = torch.from_numpy(rng.choice(len(x), number, replace=False))
    return x.index_select(0, drawn.to(x.device, non_blocking=True))  # an eighth of the time of x[drawn] on a CPU


def _plus_plus(x: Tensor, M: int, sets: int, rng: np.random.Generator) -> Tensor:
    """Several sets of k-means++ seeds at once (sets, M, d), from points (n, d).

    Each seed is a point drawn with a probability proportional to its squared distance to the nearest earlier seed.
    To draw by such weights, every point gets a waiting time from the exponential distribution, divided by its
    weight, and the first one wins. This takes no sum over the points, so each device draws the same.
    """
    first = torch.from_numpy(rng.integers(len(x), size=sets)).to(x.device, non_blocking=True)
    times = rng.standard_exponential((M - 1, len(x), sets), dtype=np.float32)
    norms = x.square().sum(dim=1, keepdim=True)  # (n, 1)
    nearest = x.new_full((len(x), sets), torch.inf)
    chosen = [first]
    for time in torch.from_numpy(times).to(x.device, non_blocking=True):
        last = chosen[-1]
        distances = torch.addmm(norms[last, 0], x, x[last].T, alpha=-2).add_(norms).clamp_(min=0)  # (n, sets)
        nearest = nearest.minimum(distances)
        chosen.append((nearest / time).argmax(dim=0))
    return x[torch.stack(chosen, dim=1)]


def _by_faiss(few: Tensor, sample: Tensor, seeds: Tensor, seed: int) -> Tensor:
    """Centroids (M, d): the best of several starts on few points, improved on a sample."""
    faiss = import_faiss()
    search = faiss.Kmeans(
        seeds.shape[2],
        seeds.shape[1],
        niter=START_ITERATIONS,
        seed=seed % 2**31,  # decides how faiss splits a cluster where another went empty
        max_points_per_centroid=len(sample),  # otherwise faiss drops points above 256 a centroid
        min_points_per_centroid=1,  # otherwise faiss warns of few points
    )
    best = np.inf
    with _one_thread(faiss):
        for start in seeds.numpy():
            objective = search.train(few.numpy(), init_centroids=start)
            if objective < best:
                best, centroids = objective, search.centroids.copy()
        search.cp.niter = ITERATIONS
        search.train(sample.numpy(), init_centroids=centroids)
    return torch.from_numpy(search.centroids)


@contextmanager
def _one_thread(faiss: ModuleType) -> Iterator[None]:
    """One thread for faiss: products this small gain nothing from more, and lose much where cores are busy."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _by_torch(few: Tensor, sample: Tensor, seeds: Tensor) -> Tensor:
    """What `_by_faiss` does, on any device: all starts at once, without waiting for the device."""
    for _ in range(START_ITERATIONS):
        seeds, objectives = _update(few, seeds)
    best = seeds.index_select(0, objectives.argmin(dim=0, keepdim=True))  # (1, M, d)
    for _ in range(ITERATIONS):
        best, _ = _update(sample, best)
    return best[0]


def _update(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """One iteration of k-means (Lloyd's) on points (n, d), from several starts at once.

    Args:
        x: Points (n, d).
        centroids: (S, M, d), the centroids of S starts.

    Returns:
        New centroids (S, M, d), where a centroid without points stays, and the objectives (S,) of the old ones, all
        of them less the sum of ||x||^2.
    """
    parts = [_tally(rows, centroids) for rows in _split(x)]
    sums, sizes, objectives = (reduce(torch.add, values) for values in zip(*parts, strict=True))
    sizes = sizes[..., None]
    return torch.where(sizes > 0, sums / sizes.clamp(min=1), centroids), objectives


def _tally(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of points (n, d) and centroids (S, M, d): sums (S, M, d) and sizes (S, M) of clusters, objectives (S,)."""
    S, M, _ = centroids.shape
    nearest = squared_distances(x, centroids.flatten(0, 1)).view(S, M, -1).min(dim=1)  # (S, n)
    members = nearest.indices[:, None] == torch.arange(M, device=x.device)[:, None]  # (S, M, n)
    return _sums(x, nearest.indices, members), members.sum(dim=2), nearest.values.sum(dim=1)


def _sums(x: Tensor, labels: Tensor, members: Tensor) -> Tensor:
    """Sums of the points (n, d) of each cluster, (S, M, d), from labels (S, n) or members (S, M, n).

    Neither way will do for both: index_add_ sums in another order each time on CUDA, a product does on a CPU with
    another number of threads.
    """
    S, M, _ = members.shape
    if x.is_cuda:
        return (members.flatten(0, 1).to(x.dtype) @ x).view(S, M, -1)
    return torch.stack([x.new_zeros(M, x.shape[1]).index_add_(0, own, x) for own in labels])


def _finish(x: Tensor, centroids: Tensor) -> KMeansResult:
    """One update of the centroids from all points (n, d), then labels; empty clusters take the farthest points."""
    centroids = _update(x, centroids[None])[0][0]
    labels, distances = _assign(x, centroids)
    numbers = torch.arange(len(centroids), device=x.device)
    for _ in range(len(centroids)):
        empty = (labels[:, None] != numbers).all(dim=0)  # (M,)
        if not empty.any() or distances.max() <= 1e-12 * x.square().sum(dim=1).max():
            break  # the second case: every point lies on its centroid, so fewer than M points differ
        centroids[empty.int().argmax()] = x[distances.argmax()]
        labels, distances = _assign(x, centroids)
    return KMeansResult(centroids, labels, distances.sum(dtype=torch.float64))


def _assign(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The label of each point (n,) and its squared distance to that centroid (n,), exact from differences."""
    labels, distances = [], []
    for rows in _split(x):
        labels.append(squared_distances(rows, centroids).min(dim=0).indices)  # ten times as fast as argmin on a CPU
        distances.append((rows - centroids.index_select(0, labels[-1])).square_().sum(dim=1))
    return torch.cat(labels), torch.cat(distances)


def _split(x: Tensor) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = x.split(CPU_ROWS if x.device.type == "cpu" else OTHER_ROWS)
    return parts


def squared_distances(x: Tensor, centroids: Tensor) -> Tensor:
    """||x - c||^2 without ||x||^2, which is the same for all centroids: (M, n) from (n, d) and (M, d)."""
    return torch.addmm(centroids.square().sum(dim=1, keepdim=True), centroids, x.T, alpha=-2)


def import_faiss() -> ModuleType:
    """The module faiss.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            f'clustering needs faiss, which cannot be imported ({error}): pip install "vos-umec[cpu]"'
        ) from error
    return faiss
