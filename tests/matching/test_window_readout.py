import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.matching.dense import affinity, readout, window_readout


def unit(*shape):
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-3)


def slow_readout(q, r, values, radius, tau):
    """Cell by cell: a softmax over the cells of all references no more than `radius` rows and columns away."""
    B, N, C, h, w = values.shape
    out = torch.zeros(B, C, h, w, dtype=values.dtype)
    for b in range(B):
        for y in range(h):
            for x in range(w):
                seen = [
                    (n, i, j)
                    for n in range(N)
                    for i in range(max(0, y - radius), min(h, y + radius + 1))
                    for j in range(max(0, x - radius), min(w, x + radius + 1))
                ]
                weights = torch.stack(
                    [torch.exp(torch.dot(q[b, :, y, x], r[b, n, :, i, j]) / tau) for n, i, j in seen]
                )
                held = torch.stack([values[b, n, :, i, j] for n, i, j in seen])
                out[b, :, y, x] = (weights[:, None] * held).sum(dim=0) / weights.sum()
    return out


@pytest.mark.parametrize(("h", "w", "radius"), [(9, 5, 2), (3, 11, 1), (8, 8, 0)])
def test_equals_the_loop_with_gradients(h, w, radius):
    q, r = unit(2, 5, h, w).requires_grad_(), unit(2, 2, 5, h, w).requires_grad_()
    values = torch.randn(2, 2, 3, h, w, dtype=torch.float64, requires_grad=True)
    fast, slow = window_readout(q, r, values, radius, 0.2), slow_readout(q, r, values, radius, 0.2)
    torch.testing.assert_close(fast, slow)
    probe = torch.randn_like(fast)
    got, expected = (torch.autograd.grad((o * probe).sum(), (q, r, values)) for o in (fast, slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 3))
def test_a_window_as_large_as_the_frame_is_the_whole_affinity(h, w, N):
    torch.manual_seed(h * 100 + w)
    q, r, values = unit(1, 4, h, w), unit(1, N, 4, h, w), torch.randn(1, N, 2, h, w, dtype=torch.float64)
    whole = readout(affinity(r, q, 0.1), values, (h, w))
    torch.testing.assert_close(
        window_readout(q, r, values, max(h, w), 0.1).float(), whole.float(), atol=1e-5, rtol=0
    )


def test_gradcheck():
    q, r = unit(1, 3, 3, 2).requires_grad_(), unit(1, 2, 3, 3, 2).requires_grad_()
    values = torch.randn(1, 2, 1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: window_readout(*x, radius=1, tau=0.5), (q, r, values))


def test_under_autocast_a_readout_is_fp32():
    keys = torch.ones(1, 4, 3, 3)
    values = torch.full((1, 1, 1, 3, 3), 0.998)
    with torch.autocast("cpu", torch.bfloat16):
        out = window_readout(keys, keys[:, None], values, radius=1)
    torch.testing.assert_close(out, values[:, 0])
