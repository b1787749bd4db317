"""The read-out of training against the equation written out, cell by cell."""

import math

import pytest
import torch
import torch.nn.functional as F

from vos_umec.errors import ConfigError
from vos_umec.matching.topk import top_k_affinity
from vos_umec.objectives.propagation import Readout

TAU = 0.1


def slowly(keys_r, key_q, values, top_k, radius, permanent_radius):
    B, N, _, h, w = keys_r.shape
    out = []
    for b in range(B):
        for y in range(h):
            for x in range(w):
                found = []
                for n in range(N):
                    reach = permanent_radius if n == 0 else radius
                    for v in range(h):
                        for u in range(w):
                            if reach is None or math.hypot(v - y, u - x) < reach:
                                score = (keys_r[b, n, :, v, u] * key_q[b, :, y, x]).sum()
                                found.append((score, values[b, n, :, v, u]))
                found = sorted(found, key=lambda cell: -cell[0].item())[:top_k]
                weights = torch.softmax(torch.stack([score for score, _ in found]) / TAU, dim=0)
                out.append(sum(weight * value for weight, (_, value) in zip(weights, found, strict=True)))
    return torch.stack(out).view(B, h, w, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("top_k", "radius", "permanent_radius"), [(4, 2, 3), (3, 1.5, None), (100, None, None)])
def test_values_and_gradients_are_those_of_the_equation(top_k, radius, permanent_radius):
    torch.manual_seed(0)
    keys_r = F.normalize(torch.randn(2, 3, 6, 4, 5), dim=2).requires_grad_()
    key_q = F.normalize(torch.randn(2, 6, 4, 5), dim=1).requires_grad_()
    values = torch.rand(2, 3, 2, 4, 5).requires_grad_()
    inputs = (keys_r, key_q, values)
    ours = Readout(top_k, radius, permanent_radius)(*inputs, TAU)
    slow = slowly(*inputs, top_k, radius, permanent_radius)
    torch.testing.assert_close(ours, slow, atol=1e-5, rtol=1e-4)
    weight = torch.rand_like(slow)
    for got, expected in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((slow * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-3)


def test_one_sided_matches_weigh_as_in_inference_and_their_loss_is_taken_as_given():
    torch.manual_seed(1)
    keys_r = F.normalize(torch.randn(2, 3, 6, 4, 5), dim=2)
    key_q = F.normalize(torch.randn(2, 6, 4, 5), dim=1).requires_grad_()
    values = torch.rand(2, 3, 2, 4, 5)
    ours = Readout(4, 3, 3, mutual=0.2)(keys_r, key_q, values, TAU)
    slow = []
    for b in range(2):
        cells_q, cells_r = key_q[b].permute(1, 2, 0), keys_r[b].permute(0, 2, 3, 1)
        with torch.no_grad():
            found = top_k_affinity(cells_q, cells_r, 1, 4, TAU, 3, 3)
            lossy = top_k_affinity(cells_q, cells_r, 1, 4, TAU, 3, 3, mutual=0.2)
            loss = lossy.weight.log() - found.weight.log()  # up to a constant of each row
        scores = (cells_r.flatten(0, 2)[found.index] * cells_q.flatten(0, 1)[:, None]).sum(dim=2)
        weight = torch.softmax(scores / TAU + loss, dim=1)
        carried = (values[b].permute(0, 2, 3, 1).flatten(0, 2)[found.index] * weight[..., None]).sum(dim=1)
        slow.append(carried.T.view(2, 4, 5))
    torch.testing.assert_close(ours, torch.stack(slow), atol=1e-5, rtol=1e-4)
    random = torch.rand_like(ours)
    got, expected = (torch.autograd.grad((x * random).sum(), key_q)[0] for x in (ours, torch.stack(slow)))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"radius": 12}, "top_k"),
        ({"mutual": 0.1}, "mutual.*top_k"),
        ({"top_k": 0}, "top_k.* 0"),
        ({"top_k": 5, "mutual": 0}, "mutual.* 0"),
    ],
)
def test_wrong_settings_are_told(wrong, told):
    with pytest.raises(ConfigError, match=told):
        Readout(**wrong)
