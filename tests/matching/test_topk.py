from math import hypot

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.errors import ConfigError
from vos_umec.matching import search
from vos_umec.matching.search import Scratch
from vos_umec.matching.topk import TopK, cell_weights, gather_values, top_k_affinity


def slow_top_k(key_q, keys_r, permanent, top_k, tau, radius, permanent_radius, window="disc"):
    """Every query cell against every reference cell, one at a time."""
    N, h, w, _ = keys_r.shape
    out = []
    for qy in range(h):
        for qx in range(w):
            scores = torch.full((N, h, w), -torch.inf)
            for n in range(N):
                reach = permanent_radius if n < permanent else radius
                for y in range(h):
                    for x in range(w):
                        away = max(abs(y - qy), abs(x - qx)) if window == "square" else hypot(y - qy, x - qx)
                        if reach is None or away < reach:
                            scores[n, y, x] = keys_r[n, y, x] @ key_q[qy, qx]
            best, cells = scores.flatten().topk(min(top_k, scores.numel()))
            out.append(torch.zeros(N * h * w).scatter(0, cells, torch.softmax(best / tau, dim=0)))
    return torch.stack(out)  # (h*w, N*h*w)


def dense(best: TopK, cells: int) -> torch.Tensor:
    return torch.zeros(len(best.index), cells).scatter_add(1, best.index, best.weight)


@pytest.mark.parametrize("radius", [None, 1, 2.5, 4])
@pytest.mark.parametrize("permanent_radius", [None, 3])
@pytest.mark.parametrize("permanent", [0, 1, 3])
@pytest.mark.parametrize("window", ["disc", "square"])
def test_tiles_equal_the_slow_loop(radius, permanent_radius, permanent, window):
    torch.manual_seed(3)
    keys = F.normalize(torch.randn(4, 9, 11, 6), dim=-1)  # more than one tile each way, none of them whole
    arguments = (keys[3], keys[:3], permanent, 5, 0.05, radius, permanent_radius)
    found = top_k_affinity(*arguments, window=window)
    torch.testing.assert_close(dense(found, 3 * 99), slow_top_k(*arguments, window))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 10), st.integers(1, 10), st.integers(1, 3), st.integers(1, 12), st.floats(0.5, 5))
def test_any_shape_equals_the_slow_loop(h, w, N, top_k, radius):
    generator = torch.Generator().manual_seed(h * 100 + w)
    keys = F.normalize(torch.randn(N + 1, h, w, 4, generator=generator), dim=-1)
    arguments = (keys[-1], keys[:-1], 1, top_k, 0.1, radius, None)
    torch.testing.assert_close(
        dense(top_k_affinity(*arguments), N * h * w), slow_top_k(*arguments), atol=1e-5, rtol=1e-4
    )


def test_gathering_is_the_product_with_the_dense_affinity():
    keys = F.normalize(torch.randn(3, 5, 6, 4), dim=-1)
    best = top_k_affinity(keys[2], keys[:2], permanent=1, top_k=4)
    values = torch.randn(2, 5, 6, 3)
    torch.testing.assert_close(gather_values(best, values), dense(best, 60) @ values.flatten(0, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("budget", [1, 20_000, 60_000])
def test_bands_turns_and_blocks_change_nothing(monkeypatch, dtype, budget):
    keys = F.normalize(torch.randn(5, 23, 13, 8), dim=-1).to(dtype)
    arguments = (keys[4], keys[:4], 1, 6, 0.05, 4, None)
    whole = top_k_affinity(*arguments)
    for name, value in (("_BAND", 8), ("_COPY_BYTES", budget), ("_QUERIES", 50), ("_GROUPS", 4), ("_GROUP", 16)):
        monkeypatch.setattr(search, name, value)
    parts = top_k_affinity(*arguments)
    torch.testing.assert_close(parts.weight, whole.weight)
    if dtype == torch.float32:  # bf16 scores tie
        assert torch.equal(parts.index, whole.index)


def exact_scores(key_q, keys_r, index):
    chosen = keys_r.flatten(0, 2)[index].double()  # (h*w, k, D)
    return torch.einsum("qd,qkd->qk", key_q.flatten(0, 1).double(), chosen).sort(dim=1).values


@pytest.mark.parametrize("permanent_radius", [None, 5])
def test_cells_that_nearly_tie_are_told_apart_as_far_as_fp32_can(permanent_radius):
    coarse = torch.randn(1, 16, 2, 2, 3)
    smooth = F.interpolate(coarse, size=(5, 12, 17), mode="trilinear", align_corners=True)[0]
    keys = F.normalize(smooth.permute(1, 2, 3, 0), dim=-1)
    best = top_k_affinity(keys[4], keys[:4], 1, 10, 0.05, 5, permanent_radius)
    wanted = slow_top_k(keys[4].double(), keys[:4].double(), 1, 10, 0.05, 5, permanent_radius).topk(10).indices
    found = exact_scores(keys[4], keys[:4], best.index)
    torch.testing.assert_close(best.score.sort(dim=1).values.double(), found, atol=1e-6, rtol=0)
    torch.testing.assert_close(found, exact_scores(keys[4], keys[:4], wanted), atol=1e-6, rtol=0)
    assert all(len(set(row)) == 10 for row in best.index.tolist())


def test_bf16_keys_are_compared_as_bf16_products():
    keys = F.normalize(torch.randn(4, 10, 9, 32), dim=-1).bfloat16()
    best = top_k_affinity(keys[3], keys[:3], 1, 5, 0.05, 4, None)
    slow = slow_top_k(keys[3].float(), keys[:3].float(), 1, 5, 0.05, 4, None)
    found = exact_scores(keys[3], keys[:3], best.index)
    torch.testing.assert_close(found, exact_scores(keys[3], keys[:3], slow.topk(5).indices), atol=1e-2, rtol=0)
    assert best.weight.dtype == torch.float32


def test_autocast_does_not_round_the_scores():
    keys = F.normalize(torch.randn(4, 10, 9, 32), dim=-1)
    outside = top_k_affinity(keys[3], keys[:3], 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = top_k_affinity(keys[3], keys[:3], 1)
    assert torch.equal(inside.index, outside.index)
    assert torch.equal(inside.weight, outside.weight)


def test_both_products_are_the_same(monkeypatch):
    keys = F.normalize(torch.randn(4, 18, 21, 32), dim=-1)
    convolved = top_k_affinity(keys[3], keys[:3], 1)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    multiplied = top_k_affinity(keys[3], keys[:3], 1)
    torch.testing.assert_close(convolved.weight, multiplied.weight, atol=1e-5, rtol=1e-4)


def test_working_memory_is_kept_and_may_cross_inference_mode():
    keys, scratch = F.normalize(torch.randn(4, 9, 11, 6), dim=-1), Scratch()
    with torch.inference_mode():
        first = top_k_affinity(keys[3], keys[:3], 0, radius=4, scratch=scratch)
    second = top_k_affinity(keys[3], keys[:3], 0, radius=4, scratch=scratch)
    assert torch.equal(first.index, second.index)
    top_k_affinity(keys[3].bfloat16(), keys[:3].bfloat16(), 0, radius=4, scratch=scratch)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 3), st.integers(0, 14), st.integers(1, 12), st.data())
def test_copies_count_as_often_as_repeated_frames_do(h, w, last, copies, top_k, data):
    radius = data.draw(st.sampled_from([1, 2.5, 4, None]))
    permanent_radius = data.draw(st.sampled_from([None, 3]))
    permanent = data.draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(100 * h + w)
    keys = F.normalize(torch.randn(permanent + last + 1, h, w, 5, generator=generator), dim=-1)
    key_q, keys = keys[-1], keys[:-1]
    best = top_k_affinity(key_q, keys, permanent, top_k, 0.1, radius, permanent_radius, copies)

    # The copies are references of their own behind the others, where the window is `radius`.
    repeated = torch.cat([keys, keys[:1].expand(copies, -1, -1, -1)])
    A = slow_top_k(key_q, repeated, permanent, top_k, 0.1, radius, permanent_radius).unflatten(1, (-1, h * w))
    expected = A[:, : len(keys)].clone()
    expected[:, 0] += A[:, len(keys) :].sum(dim=1)
    torch.testing.assert_close(dense(best, len(keys) * h * w), expected.flatten(1), atol=1e-5, rtol=1e-4)


def test_weights_of_one_cell_lie_where_it_reads():
    keys = F.normalize(torch.randn(4, 5, 7, 6), dim=-1)
    expected = slow_top_k(keys[3], keys[:3], 1, 6, 0.1, 2.5, 4).view(5, 7, 3, 5, 7)
    for copies in (0, 2):  # with copies one cell is chosen twice
        best = top_k_affinity(keys[3], keys[:3], 1, 6, 0.1, 2.5, 4, copies)
        weights = torch.stack(
            [torch.stack([cell_weights(best, (y, x), (5, 7), 3) for x in range(7)]) for y in range(5)]
        )
        torch.testing.assert_close(weights.sum(dim=(2, 3, 4)), torch.ones(5, 7))
        if copies == 0:
            torch.testing.assert_close(weights, expected, atol=1e-5, rtol=1e-4)
    values = torch.rand(3, 5, 7, 2)
    read = torch.einsum("ijnyx,nyxc->ijc", weights, values).flatten(0, 1)
    torch.testing.assert_close(read, gather_values(best, values), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("cell", "grid"), [((5, 0), (5, 7)), ((0, -1), (5, 7)), ((0, 0), (4, 7))])
def test_no_weights_of_a_cell_that_is_not_there(cell, grid):
    keys = F.normalize(torch.randn(2, 5, 7, 6), dim=-1)
    with pytest.raises(ConfigError, match="expected a cell of the grid"):
        cell_weights(top_k_affinity(keys[1], keys[:1], 1), cell, grid, references=1)
