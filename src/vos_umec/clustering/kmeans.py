"""k-means over all points by faiss, seeded, restarted, with no cluster left empty (UMEC eq. 1)."""

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
# above the best objective known (median 0.008 %, worst 1.5 %), one start on all points 1.2 % (worst 9.9 %). More
# starts, more points in them or more passes at the end gained nothing that counts. Random points and k-means++ do
# equally well there, but only k-means++ finds a small cluster far from all others. The seeds are drawn here: faiss
# has k-means++ in its latest releases only.
STARTS, START_POINTS, START_ITERATIONS = 8, 2048, 10
SAMPLE, ITERATIONS = 16_384, 7  # of the best start; it ends with a pass over all points
ROWS = 4096
"""Points that the last pass takes at a time, so that they are read from memory once."""
GPU_SCRATCH = 64 << 20
"""Bytes of GPU memory that faiss may hold; of its own choice it is up to 1.5 GiB, beside what torch holds."""


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
    """Minimise sum_i ||x_i - C s_i||^2: the best of several restarts of faiss, then a pass over all points.

    The restarts see samples of a large video, the last pass sees every point (faiss on its own keeps 256 a
    centroid): the objective is as low as that of k-means over all points, in a fraction of its time. A cluster of
    less than one point in a thousand may escape the samples. The same points and seed give the same bits, whatever
    the number of threads. A cluster may stay empty only where there are fewer than M different points.

    Args:
        x: Points (n, d), n >= M.
        M: Clusters, at least 1.
        seed: Seed of the starts, at least 0.
        gpu: None for the CPU, else the number of the one GPU that faiss uses; the last pass is the CPU's.

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
    sample = x if len(x) <= SAMPLE else x[rng.choice(len(x), SAMPLE, replace=False)]
    few = sample if len(sample) <= START_POINTS else sample[rng.choice(len(sample), START_POINTS, replace=False)]
    with _one_thread(faiss):
        search, best = _search(faiss, sample, M, START_ITERATIONS, seed, gpu), np.inf
        for seeds in _plus_plus(torch.from_numpy(few), M, STARTS, rng):
            objective = search.train(few, init_centroids=seeds.numpy())
            if objective < best:
                best, centroids = objective, search.centroids.copy()
        search.cp.niter = ITERATIONS
        search.train(sample, init_centroids=centroids)
    return _finish(torch.from_numpy(x), torch.from_numpy(search.centroids))


def _search(faiss: ModuleType, x: NDArray[np.float32], M: int, iterations: int, seed: int, gpu: int | None) -> Any:
    """The k-means of faiss, for up to the number of points given."""
    search = faiss.Kmeans(
        x.shape[1],
        M,
        niter=iterations,
        seed=seed % 2**31,  # how faiss splits a cluster where another went empty
        max_points_per_centroid=len(x),  # leave none out
        min_points_per_centroid=1,  # few points are fine, and no reason for a warning
    )
    if gpu is not None:
        # Kmeans(gpu=...) takes a number of GPUs, from the first on, and 1 for all: place the index instead.
        resources = _gpu_resources(faiss, gpu)
        search.index = faiss.index_cpu_to_gpu(resources, gpu, search.index)
    return search


def _finish(x: Tensor, centroids: Tensor) -> KMeansResult:
    """A last pass over all points (n, d), then their labels, with no cluster left empty while points differ.

    In torch, where this takes half the time that it takes in faiss.
    """
    centroids = _means(x, centroids)
    labels, distances = _assign(x, centroids)
    for _ in range(len(centroids)):
        empty = (torch.bincount(labels, minlength=len(centroids)) == 0).nonzero()[:, 0]
        if not len(empty) or distances.max() <= 1e-12 * x.square().sum(dim=1).max():
            break  # the latter: every point lies on its centroid, for there are fewer than M different points
        centroids[empty[0]] = x[distances.argmax()]
        labels, distances = _assign(x, centroids)
    return KMeansResult(centroids.numpy(), labels.numpy(), distances.sum(dtype=torch.float64).item())


def _nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each point (n, d): ||x - c||^2 without ||x||^2, which is the same for all."""
    return torch.addmm(centroids.square().sum(dim=1), x, centroids.T, alpha=-2).argmin(dim=1)


def _means(x: Tensor, centroids: Tensor) -> Tensor:
    """The mean of each centroid's points (n, d); a centroid without points stays."""
    sums, counts = torch.zeros_like(centroids), centroids.new_zeros(len(centroids))
    for rows in x.split(ROWS):
        labels = _nearest(rows, centroids)
        sums += torch.zeros_like(sums).index_add_(0, labels, rows)
        counts += torch.bincount(labels, minlength=len(centroids))
    return torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centroids)


def _assign(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (n,) and squared distances (n,) to their centroids, from differences and so exact."""
    labels, distances = [], []
    differences = x.new_empty(min(ROWS, len(x)), x.shape[1])  # fresh memory every time would cost as much again
    for rows in x.split(ROWS):
        labels.append(_nearest(rows, centroids))
        apart = torch.sub(rows, centroids[labels[-1]], out=differences[: len(rows)])
        distances.append(torch.linalg.vector_norm(apart, dim=1).square())
    return torch.cat(labels), torch.cat(distances)


@contextmanager
def _one_thread(faiss: ModuleType) -> Iterator[None]:
    """Products this small gain nothing from threads, which spin where cores are busy: ten times slower then."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _plus_plus(x: Tensor, M: int, sets: int, rng: np.random.Generator) -> Tensor:
    """k-means++, several sets at once: each seed a point drawn by its squared distance to the nearest before it.

    Gives (sets, M, d).
    """
    n = len(x)
    norms = x.square().sum(dim=1, keepdim=True)  # (n, 1)
    chosen = torch.from_numpy(rng.integers(n, size=(1, sets)))
    nearest = torch.full((n, sets), torch.inf, dtype=torch.float64)
    while len(chosen) < M:
        last = chosen[-1]
        nearest = nearest.minimum((norms - 2 * x @ x[last].T + norms[last].T).clamp(min=0))  # (n, sets)
        bound = torch.from_numpy(rng.random(sets)) * nearest.sum(dim=0)
        drawn = (nearest.cumsum(dim=0) <= bound).sum(dim=0)  # n where all lie on seeds already
        chosen = torch.cat((chosen, drawn.clamp(max=n - 1)[None]))
    return x[chosen.T]


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
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(GPU_SCRATCH)
    resources.setPinnedMemory(0)
    return resources
