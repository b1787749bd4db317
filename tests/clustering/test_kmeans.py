import sys

import faiss
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vos_umec.clustering import kmeans as module
from vos_umec.clustering.kmeans import kmeans
from vos_umec.errors import ConfigError, DataError, MissingDependencyError


@pytest.fixture(params=["faiss", "torch"])
def search(request, monkeypatch):
    """Both searches for the best start; torch's, which is for GPUs, runs anywhere."""
    if request.param == "torch":
        monkeypatch.setattr(
            module, "_by_faiss", lambda few, sample, seeds, seed: module._by_torch(few, sample, seeds)
        )


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
    points = np.concatenate([c + spread * rng.normal(size=(n, d)) for c, n in zip(centres, sizes, strict=True)])
    return torch.from_numpy(points.astype(np.float32))


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("search")
def test_objective_is_as_low_as_an_independent_lloyds(seed):
    x = np.random.default_rng(seed).normal(size=(300, 4)).astype(np.float32)  # no clusters: the hard case
    assert kmeans(torch.from_numpy(x), 4, seed).inertia.item() <= lloyd(x, 4, seed) * 1.01


@pytest.mark.usefixtures("search")
def test_labels_name_the_nearest_centroid_and_inertia_sums_the_distances():
    x = normal(200, 5)
    found = kmeans(x, 3, seed=1)
    distances = ((x[:, None].double() - found.centroids[None]) ** 2).sum(-1)
    assert (found.labels == distances.argmin(1)).all()
    assert found.inertia.item() == pytest.approx(distances.amin(1).sum().item(), rel=1e-4)


@pytest.mark.usefixtures("search")
def test_every_point_is_used():
    # 12,000 points are far beyond the 256 a centroid that faiss keeps by default.
    x = blobs((4000, 4000, 3970, 30), seed=3, spread=0.02)
    found = kmeans(x, 4, seed=0)
    assert sorted(torch.bincount(found.labels).tolist()) == [30, 3970, 4000, 4000]
    for k in range(4):
        torch.testing.assert_close(found.centroids[k], x[found.labels == k].mean(0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("M", [2, 5, 9])
@pytest.mark.parametrize("spread", [0.1, 0.6, 3.0])
def test_torch_and_faiss_get_the_same_from_the_same_seeds(M, spread):
    x = blobs((900, 700, 500, 400, 300, 200), seed=M, d=20, spread=spread)
    few = x[::3]
    seeds = module._plus_plus(few, M, 4, np.random.default_rng(M))  # (4, M, d)
    same = []
    for starts in (*seeds.split(1), seeds):  # each alone, then the best of all
        of_faiss = module._assign(x, module._by_faiss(few, x, starts, seed=0))
        of_torch = module._assign(x, module._by_torch(few, x, starts))
        assert of_torch[1].sum() <= of_faiss[1].sum() * (1 + 1e-4)
        same.append((of_torch[0] == of_faiss[0]).float().mean().item())
    # Where a point lies right between two centroids, rounding decides, and the iterations may part.
    assert sorted(same)[0 if spread < 1 and M < 9 else 2] > 0.999


def test_an_iteration_of_many_starts_is_that_of_each_alone_and_of_lloyd(monkeypatch):
    x = normal(700, 6)
    starts = torch.stack([x[:4], x[4:8], x[8:12]])  # (3, 4, 6)
    starts[2, 3] = 100.0  # no point is near it
    together, objectives = module._update(x, starts)
    monkeypatch.setattr(module, "CPU_ROWS", 64)
    for start, found, objective in zip(starts, together, objectives, strict=True):
        alone, of_alone = module._update(x, start[None])
        torch.testing.assert_close(alone[0], found)
        torch.testing.assert_close(of_alone[0], objective, rtol=1e-4, atol=0)
        distances = (x[:, None] - start).square().sum(-1)
        labels = distances.argmin(1)
        for k in range(4):
            expected = x[labels == k].mean(0) if (labels == k).any() else start[k]
            torch.testing.assert_close(found[k], expected)
        torch.testing.assert_close(objective, distances.amin(1).sum() - x.square().sum(), rtol=1e-4, atol=0)


def test_sums_are_the_same_both_ways(monkeypatch):
    x, labels = normal(300, 6), torch.randint(0, 4, (2, 300), generator=torch.Generator().manual_seed(0))
    members = labels[:, None] == torch.arange(4)[:, None]
    on_cpu = module._sums(x, labels, members)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    torch.testing.assert_close(module._sums(x, labels, members), on_cpu)


def test_seeds_are_drawn_by_their_squared_distance_to_earlier_ones():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    seeds = module._plus_plus(x, 2, 30_000, np.random.default_rng(0))[..., 0]  # (sets, 2)
    second = seeds[seeds[:, 0] == 0][:, 1]
    assert (second == 3).float().mean().item() == pytest.approx(0.9, abs=0.01)  # 9 against 1
    assert (second != 0).all()
    assert (seeds[:, 0] == 1).float().mean().item() == pytest.approx(1 / 3, abs=0.01)


def test_torch_gives_the_same_bits_every_time():
    x = normal(6000, 30)
    seeds = module._plus_plus(x, 5, 8, np.random.default_rng(0))
    assert torch.equal(module._by_torch(x, x, seeds), module._by_torch(x, x, seeds))


@pytest.mark.slow
def test_a_seed_gives_the_same_bits_whatever_the_threads():
    x = normal(6000, 140)
    before = faiss.omp_get_max_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            faiss.omp_set_num_threads(threads)
            results.append(kmeans(x, 5, seed=7))
    finally:
        faiss.omp_set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(other.centroids, results[0].centroids)
        assert torch.equal(other.labels, results[0].labels)


@pytest.mark.usefixtures("search")
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 6), st.integers(0, 200), st.integers(0, 2**40))
def test_no_cluster_is_empty_while_points_differ(M, copies, seed):
    corners = torch.eye(6)[:M]  # M different points, the first many times over
    x = torch.cat([corners[:1].expand(copies, 6), corners])
    found = kmeans(x, M, seed)
    assert (torch.bincount(found.labels, minlength=M) > 0).all()
    assert found.inertia.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.usefixtures("search")
def test_constant_points_are_one_cluster():
    found = kmeans(torch.ones(50, 3), 4, seed=0)
    assert len(found.labels.unique()) == 1
    assert found.inertia == 0


def test_too_few_or_broken_points_are_refused():
    with pytest.raises(DataError, match=r"\(4, 2\).* 5"):
        kmeans(torch.zeros(4, 2), 5, seed=0)
    for broken in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(DataError, match="finite"):
            kmeans(torch.tensor([[0.0], [broken], [1.0]]), 2, seed=0)
    with pytest.raises(DataError, match="finite"):
        kmeans(torch.tensor([[torch.inf], [-torch.inf], [1.0]]), 2, seed=0)
    with pytest.raises(ConfigError, match="at least 1"):
        kmeans(torch.zeros(4, 2), 0, seed=0)


def test_without_faiss_the_way_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r'"vos-umec\[cpu\]"'):
        kmeans(torch.zeros(4, 2), 2, seed=0)
