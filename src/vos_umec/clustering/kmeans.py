"""k-means over all points of a video by faiss, seeded and restarted (UMEC eq. 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vos_umec.errors import ConfigError, DataError, MissingDependencyError

# Measured on 10 feature grids of real videos (46,000 to 82,000 points, M = 5, 8 seeds): these settings end 0.14 %
# above the best objective known (worst 1.5 %), one start on all points 1.2 % (worst 9.9 %). More starts, points or
# iterations gained nothing. k-means++ is needed to find a small cluster far from all others, and is done here
# because only the latest releases of faiss have it.
STARTS, START_POINTS, START_ITERATIONS = 8, 2048, 10
SAMPLE, ITERATIONS = 16_384, 7  # for the best start, before the pass over all points
ROWS = 4096
"""Points that the last pass takes at a time."""
GPU_SCRATCH = 64 << 20
"""Bytes of GPU memory that faiss may hold; its own default is up to 1.5 GiB."""


@dataclass(frozen=True)
class KMeansResult:
    """The result of k-means.

    Attributes:
        centroids: (M, d) float32.
        labels: (n,) int64 in [0, M), the nearest centroid of each point.
        inertia: Sum over the points of the squared distance to their centroid.
    """

    centroids: NDArray[np.float32]
    labels: NDArray[np.int64]
    inertia: float


def kmeans(x: NDArray[np.float32], M: int, seed: int, gpu: int | None = None) -> KMeansResult:
    """Minimize sum_i ||x_i - C s_i||^2: several starts of faiss on a sample, then one pass over all points.

    The objective is as low as that of k-means over all points, in a fraction of its time; a cluster of less than
    one point in a thousand may be missed. On the CPU the same points and seed give the same bits, whatever the
    number of threads. A cluster is empty only where there are fewer than M different points.

    Args:
        x: Points (n, d), n >= M.
        M: Number of clusters, at least 1.
        seed: Seed of the starts, at least 0.
        gpu: Index of the one GPU that faiss uses, None for the CPU. The last pass always runs on the CPU.

    Returns:
        Centroids, labels and the objective.

    Raises:
        DataError: If there are fewer points than clusters, or a value is not finite.
        ConfigError: If M is below 1, or faiss sees no such GPU.
        MissingDependencyError: If faiss is not installed, or lacks GPU support and `gpu` is set.

    Example:
        >>> x = np.float32([[0, 0], [0, 1], [9, 0], [9, 1]])
        >>> result = kmeans(x, M=2, seed=0)
        >>> result.inertia, bool(result.labels[0] == result.labels[1] != result.labels[2])
        (1.0, True)
    """
    faiss = import_faiss()
    if M < 1:
        raise ConfigError(f"k-means with {M} clusters; expected at least 1")
    if x.ndim != 2 or len(x) < M:
        raise DataError(f"k-means of points {x.shape}; expected (n, d) with n at least {M}, the number of clusters")
    if not np.isfinite(x).all():
        raise DataError("k-means of points that are not all finite; look for NaN or infinity in the features")
    x = np.ascontiguousarray(x, dtype=np.float32)
    rng = np.random.default_rng(seed)
    sample = x if len(x) <= SAMPLE else x[rng.choice(len(x), SAMPLE, replace=False)]
    few = sample if len(sample) <= START_POINTS else sample[rng.choice(len(sample), START_POINTS, replace=False)]
    with _one_thread(faiss):
        search, best = _faiss_kmeans(faiss, sample, M, START_ITERATIONS, seed, gpu), np.inf
        for seeds in _plus_plus(torch.from_numpy(few), M, STARTS, rng):
            objective = search.train(few, init_centroids=seeds.numpy())
            if objective < best:
                best, centroids = objective, search.centroids.copy()
        search.cp.niter = ITERATIONS
        search.train(sample, init_centroids=centroids)
    return _finish(torch.from_numpy(x), torch.from_numpy(search.centroids))


def _faiss_kmeans(
    faiss: ModuleType, x: NDArray[np.float32], M: int, iterations: int, seed: int, gpu: int | None
) -> Any:
    """A `faiss.Kmeans` for up to as many points as `x` has."""
    search = faiss.Kmeans(
        x.shape[1],
        M,
        niter=iterations,
        seed=seed % 2**31,  # decides how faiss splits a cluster where another went empty
        max_points_per_centroid=len(x),  # otherwise faiss drops points above 256 a centroid
        min_points_per_centroid=1,  # otherwise faiss warns of few points
    )
    if gpu is not None:
        # Kmeans(gpu=n) means the first n GPUs, and n = 1 all of them: place the index instead.
        resources = _gpu_resources(faiss, gpu)
        search.index = faiss.index_cpu_to_gpu(resources, gpu, search.index)
    return search


def _gpu_resources(faiss: ModuleType, gpu: int) -> object:
    if not hasattr(faiss, "StandardGpuResources"):
        raise MissingDependencyError(
            f"k-means on GPU {gpu}, but this faiss has no GPU part: "
            'pip uninstall faiss-cpu, then pip install "vos-umec[gpu]"; or gpu=None for the CPU'
        )
    if not 0 <= gpu < faiss.get_num_gpus():
        raise ConfigError(f"k-means on GPU {gpu}; faiss sees {faiss.get_num_gpus()} GPUs, numbered from 0")
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(GPU_SCRATCH)
    resources.setPinnedMemory(0)
    return resources


@contextmanager
def _one_thread(faiss: ModuleType) -> Iterator[None]:
    """One thread for faiss: products this small gain nothing from more, and lose much where cores are busy."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _plus_plus(x: Tensor, M: int, sets: int, rng: np.random.Generator) -> Tensor:
    """Several sets of k-means++ seeds at once (sets, M, d), from points (n, d).

    Each seed is a point drawn with a probability proportional to its squared distance to the nearest earlier seed.
    """
    n = len(x)
    norms = x.square().sum(dim=1, keepdim=True)  # (n, 1)
    chosen = torch.from_numpy(rng.integers(n, size=(1, sets)))
    nearest = torch.full((n, sets), torch.inf, dtype=torch.float64)
    while len(chosen) < M:
        last = chosen[-1]
        nearest = nearest.minimum((norms - 2 * x @ x[last].T + norms[last].T).clamp(min=0))  # (n, sets)
        bound = torch.from_numpy(rng.random(sets)) * nearest.sum(dim=0)
        drawn = (nearest.cumsum(dim=0) <= bound).sum(dim=0)  # n where every point is a seed already
        chosen = torch.cat((chosen, drawn.clamp(max=n - 1)[None]))
    return x[chosen.T]


def _finish(x: Tensor, centroids: Tensor) -> KMeansResult:
    """One update of the centroids from all points (n, d), then labels; empty clusters take the farthest points.

    In torch, which takes half the time of faiss here.
    """
    centroids = _means(x, centroids)
    labels, distances = _assign(x, centroids)
    for _ in range(len(centroids)):
        empty = (torch.bincount(labels, minlength=len(centroids)) == 0).nonzero()[:, 0]
        if not len(empty) or distances.max() <= 1e-12 * x.square().sum(dim=1).max():
            break  # the second case: every point lies on its centroid, so fewer than M points differ
        centroids[empty[0]] = x[distances.argmax()]
        labels, distances = _assign(x, centroids)
    return KMeansResult(centroids.numpy(), labels.numpy(), distances.sum(dtype=torch.float64).item())


def _means(x: Tensor, centroids: Tensor) -> Tensor:
    """The mean of each centroid's points (n, d); a centroid without points stays."""
    sums, counts = torch.zeros_like(centroids), centroids.new_zeros(len(centroids))
    for rows in x.split(ROWS):
        labels = _nearest(rows, centroids)
        sums += torch.zeros_like(sums).index_add_(0, labels, rows)
        counts += torch.bincount(labels, minlength=len(centroids))
    return torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centroids)


def _assign(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The label of each point (n,) and its squared distance to that centroid (n,), exact from differences."""
    labels, distances = [], []
    differences = x.new_empty(min(ROWS, len(x)), x.shape[1])  # reused: fresh memory would double the time
    for rows in x.split(ROWS):
        labels.append(_nearest(rows, centroids))
        apart = torch.sub(rows, centroids[labels[-1]], out=differences[: len(rows)])
        distances.append(torch.linalg.vector_norm(apart, dim=1).square())
    return torch.cat(labels), torch.cat(distances)


def _nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each point (n, d), by ||x - c||^2 without ||x||^2, which is the same for all."""
    return torch.addmm(centroids.square().sum(dim=1), x, centroids.T, alpha=-2).argmin(dim=1)


def import_faiss() -> ModuleType:
    """The module faiss.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            f'clustering needs faiss, which cannot be imported ({error}): pip install "vos-umec[cpu]", '
            'or "vos-umec[gpu]" on a machine with an NVIDIA GPU (one of the two, never both)'
        ) from error
    return faiss


def faiss_gpu(device: torch.device) -> int | None:
    """Index of the GPU for faiss when features are on `device`; None where clustering runs on the CPU.

    Raises:
        MissingDependencyError: If faiss is not installed.
    """
    faiss = import_faiss()
    if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        return None
    number = torch.cuda.current_device() if device.index is None else device.index
    return number if number < faiss.get_num_gpus() else None
