import sys
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.clustering.kmeans import faiss_gpu, kmeans
from vos_umec.errors import ConfigError, DataError, MissingDependencyError


def lloyd(x, M, seed, restarts=20, iterations=100):
    """An independent k-means: random starts, Lloyd's two steps, the best of all."""
    rng = np.random.default_rng(seed)
    x = x.astype(np.float64)
    best = np.inf
    for _ in range(restarts):
        centroids = x[rng.choice(len(x), M, replace=False)]
        for _ in range(iterations):
            distances = ((x[:, None] - centroids[None]) ** 2).sum(-1)
            labels = distances.argmin(1)
            for k in range(M):
                if (labels == k).any():
                    centroids[k] = x[labels == k].mean(0)
        best = min(best, ((x[:, None] - centroids[None]) ** 2).sum(-1).min(1).sum())
    return best


def blobs(sizes, seed, d=8, spread=0.1):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), d))
    return np.concatenate(
        [c + spread * rng.normal(size=(n, d)) for c, n in zip(centres, sizes, strict=True)]
    ).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_objective_is_as_low_as_an_independent_lloyds(seed):
    x = np.random.default_rng(seed).normal(size=(300, 4)).astype(np.float32)  # no clusters: the hard case
    assert kmeans(x, 4, seed).inertia <= lloyd(x, 4, seed) * 1.01


def test_labels_name_the_nearest_centroid_and_inertia_sums_the_distances():
    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    found = kmeans(x, 3, seed=1)
    distances = ((x[:, None].astype(np.float64) - found.centroids[None]) ** 2).sum(-1)
    assert (found.labels == distances.argmin(1)).all()
    assert found.inertia == pytest.approx(distances.min(1).sum(), rel=1e-4)


def test_every_point_is_used():
    # 12,000 points are far beyond the 256 a centroid that faiss keeps by default.
    x = blobs((4000, 4000, 3970, 30), seed=3, spread=0.02)
    found = kmeans(x, 4, seed=0)
    assert sorted(np.bincount(found.labels)) == [30, 3970, 4000, 4000]
    for k in range(4):
        np.testing.assert_allclose(found.centroids[k], x[found.labels == k].mean(0), atol=1e-4)


@pytest.mark.slow
def test_a_seed_gives_the_same_bits_whatever_the_threads():
    x = np.random.default_rng(0).normal(size=(6000, 140)).astype(np.float32)
    before = faiss.omp_get_max_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            faiss.omp_set_num_threads(threads)
            results.append(kmeans(x, 5, seed=7))
    finally:
        faiss.omp_set_num_threads(before)
    for other in results[1:]:
        assert other.centroids.tobytes() == results[0].centroids.tobytes()
        assert (other.labels == results[0].labels).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(0, 200), st.integers(0, 2**40))
def test_no_cluster_is_empty_while_points_differ(M, copies, seed):
    corners = np.eye(6, dtype=np.float32)[:M]  # M different points, the first many times over
    x = np.concatenate([np.repeat(corners[:1], copies, axis=0), corners])
    found = kmeans(x, M, seed)
    assert (np.bincount(found.labels, minlength=M) > 0).all()
    assert found.inertia == pytest.approx(0, abs=1e-5)


def test_constant_points_are_one_cluster():
    found = kmeans(np.ones((50, 3), np.float32), 4, seed=0)
    assert len(np.unique(found.labels)) == 1
    assert found.inertia == 0


def test_too_few_or_broken_points_are_refused():
    with pytest.raises(DataError, match=r"\(4, 2\).* 5"):
        kmeans(np.zeros((4, 2), np.float32), 5, seed=0)
    with pytest.raises(DataError, match="finite"):
        kmeans(np.float32([[0.0], [np.nan], [1.0]]), 2, seed=0)
    with pytest.raises(ConfigError, match="at least 1"):
        kmeans(np.zeros((4, 2), np.float32), 0, seed=0)


def test_without_faiss_the_way_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r'"vos-umec\[cpu\]".*"vos-umec\[gpu\]"'):
        kmeans(np.zeros((4, 2), np.float32), 2, seed=0)


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this faiss has its GPU part")
def test_a_gpu_without_faiss_gpu_is_refused_not_ignored():
    with pytest.raises(MissingDependencyError, match=r"GPU 0.*vos-umec\[gpu\]"):
        kmeans(np.zeros((4, 2), np.float32), 2, seed=0, gpu=0)
    assert faiss_gpu(torch.device("cuda", 0)) is None


def test_only_the_gpu_that_is_asked_for_is_used(monkeypatch):
    # No GPU here: a stand-in notes on which one the index would be placed.
    placed = []
    resources = SimpleNamespace(setTempMemory=lambda size: None, setPinnedMemory=lambda size: None)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: resources, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 4)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda _, gpu, index: placed.append(gpu) or index, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", None)
    x = blobs((20, 20), seed=0)
    for gpu in (1, 0, 3):
        assert kmeans(x, 2, seed=0, gpu=gpu).inertia == kmeans(x, 2, seed=0).inertia
    assert placed == [1, 0, 3]
    assert faiss_gpu(torch.device("cuda", 3)) == 3
    assert faiss_gpu(torch.device("cuda", 4)) is None
    assert faiss_gpu(torch.device("cpu")) is None
    with pytest.raises(ConfigError, match=r"GPU 4.* 4 GPUs"):
        kmeans(x, 2, seed=0, gpu=4)
