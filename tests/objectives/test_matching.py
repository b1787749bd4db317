import pytest
import torch
import torch.nn.functional as F

from vos_umec.objectives import info_nce as matching
from vos_umec.objectives.info_nce import matching_cross_entropy


@pytest.mark.parametrize("scores", [1, 40, 2**20])  # a row at a time, some, all
def test_equals_the_plain_cross_entropy_with_gradients(monkeypatch, scores):
    monkeypatch.setattr(matching, "CPU_SCORES", scores)
    torch.manual_seed(0)
    x, y = (torch.randn(n, 6, dtype=torch.float64, requires_grad=True) for n in (50, 9))
    labels, tau = torch.randint(9, (50,)), 0.3
    loss, right = matching_cross_entropy(x, y, labels, tau)
    plain = F.cross_entropy(x @ y.T / tau, labels)
    torch.testing.assert_close(loss, plain)
    assert not right.requires_grad
    assert right == ((x @ y.T).argmax(dim=1) == labels).double().mean()
    for got, expected in zip(
        torch.autograd.grad(3 * loss, (x, y)), torch.autograd.grad(3 * plain, (x, y)), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_a_gradient_that_is_not_asked_for_is_none_and_bfloat16_is_close():
    torch.manual_seed(0)
    x, y = F.normalize(torch.randn(64, 16), dim=1).requires_grad_(), F.normalize(torch.randn(8, 16), dim=1)
    labels = torch.randint(8, (64,))
    exact, _ = matching_cross_entropy(x, y, labels, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = matching_cross_entropy(x, y, labels, 0.05)
    loss.backward()
    assert loss.dtype == torch.float32
    assert y.grad is None
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
    torch.testing.assert_close(x.grad, torch.autograd.grad(exact, x)[0], rtol=0.1, atol=0.01)


def test_scores_far_apart_stay_finite():
    x = torch.tensor([[100.0], [-100.0]], requires_grad=True)
    loss, _ = matching_cross_entropy(x, torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 0]), tau=0.01)
    loss.backward()
    assert loss.item() == pytest.approx(20_000)
    assert x.grad.isfinite().all()
