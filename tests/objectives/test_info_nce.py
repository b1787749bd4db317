import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_toys import slow_info_nce

from vos_umec.objectives.info_nce import info_nce


def draw(B, S, D, grid):
    x = F.normalize(torch.randn(B, S, D, dtype=torch.float64), dim=2).requires_grad_()
    y = F.normalize(torch.randn(B, S, D, dtype=torch.float64), dim=2).requires_grad_()
    cells = torch.stack([torch.randperm(grid[0] * grid[1])[:S] for _ in range(B)])
    return x, y, cells


@pytest.mark.parametrize("radius", [0.0, 1.0, 2.0, 2.9])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_equals_the_equation_with_gradients(radius, share):
    x, y, cells = draw(3, 6, 4, (4, 5))
    valid = torch.rand(3, 6) < share
    fast, accuracy = info_nce(x, y, cells, valid, width=5, tau=0.3, radius=radius)
    slow, right = slow_info_nce(x, y, cells, valid, 5, 0.3, radius)
    torch.testing.assert_close(fast, slow)
    assert float(accuracy) == pytest.approx(right)
    for got, expected in zip(torch.autograd.grad(fast, (x, y)), torch.autograd.grad(slow, (x, y)), strict=True):
        torch.testing.assert_close(got, expected)


@settings(max_examples=25, deadline=None)
@given(
    B=st.integers(1, 3),
    S=st.integers(1, 6),
    seed=st.integers(0, 1000),
    share=st.floats(0, 1),
    radius=st.integers(0, 32).map(lambda eighths: eighths / 8),
)
def test_equals_the_equation_anywhere(B, S, seed, share, radius):
    torch.manual_seed(seed)
    x, y, cells = draw(B, S, 3, (3, 4))
    valid = torch.rand(B, S) < share
    fast, accuracy = info_nce(x, y, cells, valid, width=4, tau=0.2, radius=radius)
    slow, right = slow_info_nce(x, y, cells, valid, 4, 0.2, radius)
    torch.testing.assert_close(fast, torch.as_tensor(slow, dtype=torch.float64))
    assert float(accuracy) == pytest.approx(right)


def test_nothing_valid_is_zero_and_still_has_a_graph():
    x, y, cells = draw(2, 3, 4, (3, 3))
    loss, accuracy = info_nce(x, y, cells, torch.zeros(2, 3, dtype=torch.bool), width=3)
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(accuracy) == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_invalid_pairs_have_no_influence():
    x, y, cells = draw(2, 4, 4, (4, 4))
    valid = torch.tensor([[True, True, False, True], [False, True, True, True]])
    before, _ = info_nce(x, y, cells, valid, width=4)
    x2, y2 = x.detach().clone(), y.detach().clone()
    x2[~valid] = float("nan")
    y2[~valid] = 100.0
    after, _ = info_nce(torch.nan_to_num(x2, nan=5.0), y2, cells, valid, width=4)
    torch.testing.assert_close(before, after)


def test_bfloat16_autocast_stays_finite_and_close():
    x, y, cells = (v.float() if v.is_floating_point() else v for v in draw(4, 32, 64, (16, 16)))
    valid = torch.ones(4, 32, dtype=torch.bool)
    plain, _ = info_nce(x, y, cells, valid, width=16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = info_nce(x, y, cells, valid, width=16)
    assert mixed.dtype == torch.float32
    assert float(mixed.detach()) == pytest.approx(float(plain.detach()), rel=0.02)
