"""The search from coarse to fine against its definition, cell by cell, and the search for some cells alone."""

from math import ceil, hypot

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.matching import coarse_to_fine, topk
from vos_umec.matching.search import Scratch, search_window
from vos_umec.matching.topk import top_k_affinity


@pytest.fixture(autouse=True)
def _exact_products(monkeypatch):
    monkeypatch.setattr(coarse_to_fine, "multiplies_bf16", lambda device: False)


def unit_keys(N, h, w, D=8):
    generator = torch.Generator().manual_seed(100 * h + w)
    return F.normalize(torch.randn(N, h, w, D, generator=generator, dtype=torch.float64), dim=-1)


def inside(cell, grid):
    """The cells inside a coarse cell."""
    return [
        (y, x)
        for y in range(2 * cell[0], min(2 * cell[0] + 2, grid[0]))
        for x in range(2 * cell[1], min(2 * cell[1] + 2, grid[1]))
    ]


def near(a, b, radius, window):
    dy, dx = abs(a[0] - b[0]), abs(a[1] - b[1])
    return radius is None or (max(dy, dx) if window == "square" else hypot(dy, dx)) < radius


def slowly(key_q, keys, top_k, radii, parents, window):
    """Scores and positions of each query cell's best cells: {(y, x): [(score, (n, y, x)), ...]}."""
    N, h, w, _ = keys.shape

    def mean(key, cell):
        return F.normalize(torch.stack([key[place] for place in inside(cell, (h, w))]).mean(dim=0), dim=0)

    coarse = [(Y, X) for Y in range(ceil(h / 2)) for X in range(ceil(w / 2))]
    means = {(n, *cell): mean(keys[n], cell) for n in range(N) for cell in coarse}
    found = {}
    for cell in coarse:
        q = mean(key_q, cell)
        seen = [
            (float(q @ means[n, *other]), (n, *other))
            for n in range(N)
            for other in coarse
            if near(cell, other, None if radii[n] is None else radii[n] / 2, window)
        ]
        best = [place for _, place in sorted(seen, reverse=True)[:parents]]
        for query in inside(cell, (h, w)):
            children = [
                (float(key_q[query] @ keys[n, y, x]), (n, y, x))
                for n, *parent in best
                for y, x in inside(parent, (h, w))
                if near(query, (y, x), radii[n], window)
            ]
            found[query] = sorted(children, reverse=True)[:top_k]
    return found


@pytest.mark.parametrize("tiled", [("cpu",), ()], ids=["tiles", "bands"])
@pytest.mark.parametrize("window", ["disc", "square"])
@pytest.mark.parametrize("radius", [None, 0.5, 2, 3.5])
@pytest.mark.parametrize("size", [(6, 9), (7, 4), (1, 5)])
def test_equals_the_slow_loop(monkeypatch, size, radius, window, tiled):
    monkeypatch.setattr(topk, "_TILED", tiled)
    monkeypatch.setattr(coarse_to_fine, "_CPU_BYTES", 3000)  # in several parts
    keys = unit_keys(4, *size)
    arguments = (keys[3], keys[:3], 1, 5, 0.1, radius, 4, 0, None, window)
    best = top_k_affinity(*arguments, coarse_to_fine=6)
    expected = slowly(keys[3], keys[:3], 5, [4, radius, radius], 6, window)
    alone = slowly(keys[3], keys[:1], 5, [4], 5, window)  # among its five best coarse cells
    for found, wanted in ((best, expected), (best.permanent, alone)):
        for (y, x), cells in wanted.items():
            at = y * size[1] + x
            some = found.score[at].isfinite()
            assert some.sum() == len(cells) > 0
            torch.testing.assert_close(found.score[at][some].double(), torch.tensor([s for s, _ in cells]).double())
            positions = [(n * size[0] + v) * size[1] + u for _, (n, v, u) in cells]
            assert found.index[at][some].tolist() == positions


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 11), st.integers(1, 11), st.integers(1, 3), st.sampled_from([None, 1, 4]), st.integers(0, 3))
def test_all_parents_of_a_grid_without_windows_are_the_exact_search(h, w, N, permanent_radius, copies):
    keys = unit_keys(N + 1, h, w)
    parents = N * ceil(h / 2) * ceil(w / 2) + 2  # more than there are
    arguments = (keys[-1], keys[:-1], 1, 4, 0.1, None, None, copies)
    exact, ours = top_k_affinity(*arguments), top_k_affinity(*arguments, coarse_to_fine=parents)
    torch.testing.assert_close(ours.weight, exact.weight)
    some = exact.score.isfinite()
    assert torch.equal(ours.index[some], exact.index[some])


@pytest.mark.parametrize("tiled", [("cpu",), ()], ids=["tiles", "bands"])
@pytest.mark.parametrize("parents", [None, 3])
@pytest.mark.parametrize("radius", [None, 4])
def test_wanted_cells_are_found_as_ever_and_others_weigh_nothing(monkeypatch, radius, parents, tiled):
    monkeypatch.setattr(topk, "_TILED", tiled)
    keys = unit_keys(5, 43, 21)
    wanted = torch.zeros(43, 21, dtype=torch.bool)
    wanted[3:5, 2] = wanted[38:, 15:] = True
    arguments = (keys[4], keys[:4], 1, 5, 0.1, radius, 7, 3)
    whole = top_k_affinity(*arguments, coarse_to_fine=parents)
    some = top_k_affinity(*arguments, coarse_to_fine=parents, wanted=wanted)
    for a, b in ((whole, some), (whole.permanent, some.permanent)):
        assert torch.equal(a.index[wanted.flatten()], b.index[wanted.flatten()])
        torch.testing.assert_close(a.weight * wanted.flatten()[:, None], b.weight)
        assert torch.equal(b.score.isneginf(), ~wanted.flatten()[:, None].expand(-1, 5))


def test_halves_are_unit_means_in_bf16_where_that_is_quick(monkeypatch):
    keys = unit_keys(2, 5, 7).float()
    halved = coarse_to_fine.halve_keys(keys)
    assert halved.shape == (2, 3, 4, 8)
    torch.testing.assert_close(halved[1, 2, 1], F.normalize(keys[1, 4, 2] + keys[1, 4, 3], dim=0))
    monkeypatch.setattr(coarse_to_fine, "multiplies_bf16", lambda device: True)
    assert coarse_to_fine.halve_keys(keys).dtype == torch.bfloat16


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 20), st.integers(3, 20), st.integers(2, 9), st.integers(1, 8), st.integers(0, 40))
def test_a_pool_of_fewer_groups_keeps_the_best_cell(h, w, N, top_k, more):
    keys = unit_keys(N + 1, h, w).float()
    pool, where = top_k + more, (top_k, 4.0, Scratch())
    exact, exact_index = search_window(keys[-1], keys[:-1], *where)
    scores, index = search_window(keys[-1], keys[:-1], *where, pool=pool)
    torch.testing.assert_close(scores[:, 0], exact[:, 0])
    some = scores.isfinite()
    products = torch.einsum("qd,qkd->qk", keys[-1].flatten(0, 1), keys[:-1].flatten(0, 2)[index])
    torch.testing.assert_close(scores[some], products[some])
    assert (scores <= exact).all()
    if pool >= top_k * N:
        assert torch.equal(index[some], exact_index[some])


def test_bf16_keys_are_compared_in_bf16_and_nearly_the_same_cells_are_found(monkeypatch):
    monkeypatch.setattr(coarse_to_fine, "multiplies_bf16", lambda device: True)
    keys = unit_keys(4, 20, 24, D=32).float()
    arguments = {"permanent": 1, "top_k": 5, "radius": 6, "permanent_radius": 9, "coarse_to_fine": 24}
    arguments["halved"] = coarse_to_fine.halve_keys(keys[:3])
    single = top_k_affinity(keys[3], keys[:3], **arguments)
    halves = top_k_affinity(keys[3], keys[:3].bfloat16(), **arguments)
    assert halves.score.dtype == halves.weight.dtype == torch.float32
    torch.testing.assert_close(halves.score, single.score, atol=0.01, rtol=0)
