"""k-means over all points by faiss, seeded, restarted, with no cluster left empty (UMEC eq. 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vos_umec.errors import ConfigError, DataError, MissingDependencyError

# Measured on 10 feature grids of real videos (16,000 to 44,000 points, M = 5): the best of 6 starts is on average
# 0.05 % above the best objective known, a single start 1 %. Random points and k-means++ do equally well there, but
# only k-means++ finds a cluster of few points far from all others. The seeds are drawn here: faiss has k-means++
# in its latest releases only.
STARTS = 6
ITERATIONS = 25
# The starts run on a random part of a large video's points, the last iterations on all of them.
SAMPLE = 16_384
LAST_ITERATIONS = 5


@dataclass(frozen=True)
class KMeansResult:
    """What k-means found.

    Attributes:
        centroids: (M, d) float32.
        labels: (n,) int64 in [0, M), the nearest centroid of each point.
        inertia: Sum over the points of the squared distance to their centroid.
    """

    centroids: NDArray[np.float32]
    labels: NDArray[np.int64]
    inertia: float


def kmeans(x: NDArray[np.float32], M: int, seed: int, gpu: int | None = None) -> KMeansResult:
    """Minimise sum_i ||x_i - C s_i||^2 with faiss, the best of several restarts.

    Every point is used (faiss on its own keeps 256 a centroid). The same points and seed give the same bits,
    whatever the number of threads. A cluster may stay empty only where there are fewer than M different points.

    Args:
        x: Points (n, d), n >= M.
        M: Clusters, at least 1.
        seed: Seed of the starts, at least 0.
        gpu: None for the CPU, else the number of the one GPU to use.

    Returns:
        Centroids, labels and the objective.

    Raises:
        DataError: If there are fewer points than clusters, or a value is not finite.
        ConfigError: If M is below 1, or faiss sees no such GPU.
        MissingDependencyError: If faiss is not installed, or without its GPU part where `gpu` is given.

    Source:
        UMEC eq. 1; faiss Kmeans.

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
    with _one_thread(faiss):
        sample = x if len(x) <= SAMPLE else x[rng.choice(len(x), SAMPLE, replace=False)]
        search = _search(faiss, sample, M, ITERATIONS, seed, gpu)
        best, centroids = np.inf, x[:M]
        for start in range(STARTS):
            # Seeds come from all points: a cluster of few may be missing from the sample.
            seeds = _plus_plus(x, M, rng) if start % 2 else x[rng.choice(len(x), M, replace=False)]
            objective = search.train(sample, init_centroids=seeds)
            if objective < best:
                best, centroids = objective, search.centroids.copy()
        if sample is not x:
            search = _search(faiss, x, M, LAST_ITERATIONS, seed, gpu)
            search.train(x, init_centroids=centroids)
            centroids = search.centroids
        return _assign(search, x, centroids)


def _search(faiss: ModuleType, x: NDArray[np.float32], M: int, iterations: int, seed: int, gpu: int | None) -> Any:
    """The k-means of faiss over all of some points."""
    search = faiss.Kmeans(
        x.shape[1],
        M,
        niter=iterations,
        seed=seed % 2**31,  # how faiss splits a cluster where another went empty
        max_points_per_centroid=len(x),  # all of them
        min_points_per_centroid=1,  # few points are fine, and no reason for a warning
    )
    if gpu is not None:
        # Kmeans(gpu=...) takes a number of GPUs, from the first on, and 1 for all: place the index instead.
        resources = _gpu_resources(faiss, gpu)
        search.index = faiss.index_cpu_to_gpu(resources, gpu, search.index)
    return search


def _assign(search: Any, x: NDArray[np.float32], centroids: NDArray[np.float32]) -> KMeansResult:
    """Labels and objective, with no cluster left empty while points differ."""
    M = len(centroids)
    search.centroids = centroids
    distances, labels = search.assign(x)
    for _ in range(M):
        empty = np.flatnonzero(np.bincount(labels, minlength=M) == 0)
        if not len(empty):
            break
        residuals = np.square(x - search.centroids[labels]).sum(axis=1)  # exact, unlike the search's distances
        if residuals.max() <= 1e-12 * np.square(x).sum(axis=1).max():
            break  # every point lies on its centroid: there are fewer than M different points
        search.centroids[empty[0]] = x[residuals.argmax()]
        distances, labels = search.assign(x)
    return KMeansResult(search.centroids, labels, float(distances.sum(dtype=np.float64)))


@contextmanager
def _one_thread(faiss: ModuleType) -> Iterator[None]:
    """Products this small gain nothing from threads, which spin where cores are busy: ten times slower then."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _plus_plus(x: NDArray[np.float32], M: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """k-means++: each seed a point drawn by its squared distance to the nearest seed before it."""
    seeds = [x[rng.integers(len(x))]]
    nearest = np.full(len(x), np.inf)
    while len(seeds) < M:
        nearest = np.minimum(nearest, np.square(x - seeds[-1]).sum(axis=1))
        total = nearest.sum()
        seeds.append(x[rng.choice(len(x), p=nearest / total if total else None)])
    return np.stack(seeds)


def faiss_gpu(device: torch.device) -> int | None:
    """Number of the GPU that faiss can use beside this device; None where clustering is the CPU's work.

    Args:
        device: Where the features are.

    Raises:
        MissingDependencyError: If faiss is not installed.

    Example:
        >>> faiss_gpu(torch.device("cpu")) is None
        True
    """
    faiss = import_faiss()
    if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        return None
    number = torch.cuda.current_device() if device.index is None else device.index
    return number if number < faiss.get_num_gpus() else None


def import_faiss() -> ModuleType:
    """The module faiss.

    Raises:
        MissingDependencyError: If it is not installed, with what to install.

    Example:
        >>> import_faiss().__name__
        'faiss'
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            f'clustering needs faiss, which cannot be imported ({error}): pip install "vos-umec[cpu]", '
            'or "vos-umec[gpu]" on a machine with an NVIDIA GPU (one of the two, never both)'
        ) from error
    return faiss


def _gpu_resources(faiss: ModuleType, gpu: int) -> object:
    if not hasattr(faiss, "StandardGpuResources"):
        raise MissingDependencyError(
            f"k-means on GPU {gpu}, but this faiss has no GPU part: "
            'pip uninstall faiss-cpu, then pip install "vos-umec[gpu]"; or gpu=None for the CPU'
        )
    if not 0 <= gpu < faiss.get_num_gpus():
        raise ConfigError(f"k-means on GPU {gpu}; faiss sees {faiss.get_num_gpus()} GPUs, numbered from 0")
    return faiss.StandardGpuResources()
