import torch
import torch.nn.functional as F

from vos_umec.matching.dense import affinity, readout

B, N, D, h, w, C, tau = 2, 3, 5, 3, 4, 2, 0.3


def keys(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-3).requires_grad_()


def slow_readout(keys_r, keys_q, values):
    """V_q[c, q] = sum over (n, y, x) of exp(I_r . I_q / tau) / Z_q * V_r, one query pixel at a time."""
    rows = []
    for b in range(B):
        for c in range(C):
            for qy in range(h):
                for qx in range(w):
                    weights, found = [], []
                    for n in range(N):
                        for y in range(h):
                            for x in range(w):
                                score = (keys_r[b, n, :, y, x] * keys_q[b, :, qy, qx]).sum() / tau
                                weights.append(score.exp())
                                found.append(values[b, n, c, y, x])
                    weight = torch.stack(weights)
                    rows.append((weight / weight.sum() * torch.stack(found)).sum())
    return torch.stack(rows).view(B, C, h, w)


def test_readout_and_its_gradients_equal_the_loop_of_equation_4():
    keys_r, keys_q = keys(B, N, D, h, w), keys(B, D, h, w)
    values = torch.randn(B, N, C, h, w, dtype=torch.float64, requires_grad=True)
    slow = slow_readout(keys_r, keys_q, values)
    A = torch.softmax(
        torch.einsum("bdr,bdq->brq", keys_r.transpose(1, 2).flatten(2), keys_q.flatten(2)) / tau, dim=1
    )
    torch.testing.assert_close(readout(A, values, (h, w)), slow)
    # The affinity itself ends in fp32, so its gradients agree to single precision.
    fast = readout(affinity(keys_r, keys_q, tau), values, (h, w))
    torch.testing.assert_close(fast.double(), slow, atol=1e-5, rtol=1e-5)
    weight = torch.randn(B, C, h, w, dtype=torch.float64)
    inputs = (keys_r, keys_q, values)
    for got, expected in zip(
        torch.autograd.grad((fast * weight).sum(), inputs),
        torch.autograd.grad((slow * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_under_autocast_a_readout_is_not_rounded():
    A = torch.full((1, 1000, 4), 1e-3)
    values = torch.ones(1, 1000, 2, 1, 1).to(torch.bfloat16)
    values[:, :2] = 0
    with torch.autocast("cpu", torch.bfloat16):
        out = readout(A, values, (2, 2))
    torch.testing.assert_close(out, torch.full((1, 2, 2, 2), 0.998))


def test_columns_sum_to_one_over_all_references_jointly():
    A = affinity(keys(B, N, D, h, w), keys(B, D, h, w))
    assert A.shape == (B, N * h * w, h * w)
    torch.testing.assert_close(A.sum(dim=1), torch.ones(B, h * w))
