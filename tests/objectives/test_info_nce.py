import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_toys import slow_anchor_cross_entropy, slow_info_nce

from vos_umec.objectives.info_nce import anchor_cross_entropy, info_nce


def draw(B, S, D):
    return (
        F.normalize(torch.randn(B, S, D, dtype=torch.float64), dim=2).requires_grad_(),
        F.normalize(torch.randn(B, S, D, dtype=torch.float64), dim=2).requires_grad_(),
    )


@settings(max_examples=25, deadline=None)
@given(B=st.integers(1, 3), S=st.integers(1, 6), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_equals_the_equation_with_gradients(B, S, seed, share):
    torch.manual_seed(seed)
    x, y = draw(B, S, 3)
    valid = torch.rand(B, S) < share
    fast, accuracy = info_nce(x, y, valid, tau=0.2)
    slow, right = slow_info_nce(x, y, valid, 0.2)
    torch.testing.assert_close(fast, torch.as_tensor(slow, dtype=torch.float64))
    assert float(accuracy) == pytest.approx(right)
    if valid.any():
        for got, expected in zip(torch.autograd.grad(fast, (x, y)), torch.autograd.grad(slow, (x, y)), strict=True):
            torch.testing.assert_close(got, expected)


def test_nothing_valid_is_zero_and_still_has_a_graph():
    x, y = draw(2, 3, 4)
    loss, accuracy = info_nce(x, y, torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(accuracy) == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_invalid_pairs_have_no_influence():
    x, y = draw(2, 4, 4)
    valid = torch.tensor([[True, True, False, True], [False, True, True, True]])
    before, _ = info_nce(x, y, valid)
    x2, y2 = x.detach().clone(), y.detach().clone()
    x2[~valid] = 5.0
    y2[~valid] = 100.0
    after, _ = info_nce(x2, y2, valid)
    torch.testing.assert_close(before, after)


def test_bfloat16_autocast_stays_finite_and_close():
    x, y = (v.detach().float() for v in draw(4, 32, 64))
    valid = torch.ones(4, 32, dtype=torch.bool)
    plain, _ = info_nce(x, y, valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = info_nce(x, y, valid)
    assert mixed.dtype == torch.float32
    assert float(mixed) == pytest.approx(float(plain), rel=0.02)


def test_anchors_of_all_clips_equal_the_loop_with_gradients():
    torch.manual_seed(3)
    students, teachers = (
        F.normalize(torch.randn(3, 2, 4, 3, 2, dtype=torch.float64), dim=2).requires_grad_() for _ in range(2)
    )
    anchors, _ = draw(3, 5, 4)
    fast, accuracy = anchor_cross_entropy(students, teachers, anchors, tau=0.3)
    slow, agree = slow_anchor_cross_entropy(students, teachers, anchors, 0.3)
    torch.testing.assert_close(fast, slow)
    assert float(accuracy) == pytest.approx(agree)
    got, expected = (torch.autograd.grad(loss, (students, anchors)) for loss in (fast, slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)
    fast, _ = anchor_cross_entropy(students, teachers, anchors, tau=0.3)
    assert torch.autograd.grad(fast, teachers, allow_unused=True) == (None,), "labels have no gradient"
