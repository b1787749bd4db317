import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.inference.readout import TopK, gather_values, top_k_affinity


def slow_top_k(key_q, keys_r, anchors, top_k, tau, radius, anchor_radius):
    """Every query cell against every reference cell, one at a time."""
    N, h, w, _ = keys_r.shape
    out = []
    for qy in range(h):
        for qx in range(w):
            scores = torch.full((N, h, w), -torch.inf)
            for n in range(N):
                reach = anchor_radius if n < anchors else radius
                for y in range(h):
                    for x in range(w):
                        if reach is None or (y - qy) ** 2 + (x - qx) ** 2 < reach**2:
                            scores[n, y, x] = keys_r[n, y, x] @ key_q[qy, qx]
            best, cells = scores.flatten().topk(min(top_k, scores.numel()))
            out.append(torch.zeros(N * h * w).scatter(0, cells, torch.softmax(best / tau, dim=0)))
    return torch.stack(out)  # (h*w, N*h*w)


def dense(best: TopK, cells: int) -> torch.Tensor:
    return torch.zeros(len(best.index), cells).scatter_add(1, best.index, best.weight)


@pytest.mark.parametrize("radius", [None, 1, 2.5, 4])
@pytest.mark.parametrize("anchor_radius", [None, 3])
@pytest.mark.parametrize("anchors", [0, 1, 3])
def test_tiles_equal_the_slow_loop(radius, anchor_radius, anchors):
    torch.manual_seed(3)
    keys = F.normalize(torch.randn(4, 9, 11, 6), dim=-1)  # more than one tile each way, none of them whole
    arguments = (keys[3], keys[:3], anchors, 5, 0.05, radius, anchor_radius)
    torch.testing.assert_close(dense(top_k_affinity(*arguments), 3 * 99), slow_top_k(*arguments))


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
    best = top_k_affinity(keys[2], keys[:2], anchors=1, top_k=4)
    values = torch.randn(2, 5, 6, 3)
    torch.testing.assert_close(gather_values(best, values), dense(best, 60) @ values.flatten(0, 2))
