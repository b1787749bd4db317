import math

import pytest
import torch

from vos_umec.models.layers import soft_aggregate


def test_soft_aggregation_equals_the_loop():
    p = torch.rand(2, 3, 2, 2, dtype=torch.float64).clamp(0.01, 0.99).requires_grad_()
    valid = torch.tensor([[True, True, True], [True, False, True]])
    slow = []
    for b in range(2):
        for y in range(2):
            for x in range(2):
                own = [p[b, k, y, x] for k in range(3) if valid[b, k]]
                background = math.prod(1 - q for q in own)
                odds = [q / (1 - q) for q in [background, *own]]
                total = sum(odds)
                full = iter([o / total for o in odds])
                slow += [next(full), *(next(full) if valid[b, k] else p[b, k, y, x] * 0 for k in range(3))]
    slow = torch.stack(slow).view(2, 2, 2, 4).permute(0, 3, 1, 2)
    fast = soft_aggregate(p, valid).softmax(dim=1)
    torch.testing.assert_close(fast.double(), slow, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(slow)
    (got,) = torch.autograd.grad((fast * weight).sum(), p)
    (expected,) = torch.autograd.grad((slow * weight).sum(), p)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_soft_aggregation_is_finite_at_the_ends(p):
    logits = soft_aggregate(torch.full((1, 2, 1, 1), p))
    assert logits.isfinite().all()
