"""The read-out of training against the equation written out, cell by cell."""

import math

import pytest
import torch
import torch.nn.functional as F

from vos_umec.errors import ConfigError
from vos_umec.matching.readout import Readout
from vos_umec.matching.topk import top_k_affinity

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


@pytest.mark.parametrize(
    ("top_k", "radius", "permanent_radius"),
    [(4, 2, 3), (3, 1.5, None), (5, 1, 1), (100, None, None), (None, None, None)],
)
@pytest.mark.parametrize("own_tau", [None, TAU])
def test_values_and_gradients_are_those_of_the_equation(top_k, radius, permanent_radius, own_tau):
    torch.manual_seed(0)
    keys_r = F.normalize(torch.randn(2, 3, 6, 4, 5), dim=2).requires_grad_()
    key_q = F.normalize(torch.randn(2, 6, 4, 5), dim=1).requires_grad_()
    masks, values = torch.rand(2, 3, 2, 4, 5).requires_grad_(), torch.rand(2, 3, 2, 3, 4, 5).requires_grad_()
    inputs = (keys_r, key_q, masks, values)
    readout = Readout(top_k, radius, permanent_radius, own_tau)
    read = readout.read_clips(*inputs, tau=TAU if own_tau is None else 9.0)
    ours = torch.cat((read.masks, read.values.flatten(1, 2)), dim=1)
    slow = slowly(keys_r, key_q, torch.cat((masks, values.flatten(2, 3)), dim=2), top_k, radius, permanent_radius)
    torch.testing.assert_close(ours, slow, atol=1e-5, rtol=1e-4)
    weight = torch.rand_like(slow)
    for got, expected in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((slow * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-3)


def test_under_autocast_the_weights_are_those_of_the_exact_scores():
    torch.manual_seed(0)
    keys = F.normalize(torch.randn(1, 3, 16, 6, 7), dim=2)
    masks, values = torch.rand(1, 2, 3, 6, 7), torch.rand(1, 2, 3, 4, 6, 7)
    best = top_k_affinity(keys[0, 2].permute(1, 2, 0), keys[0, :2].permute(0, 2, 3, 1), 1, 5, TAU, 3, None)
    cells = masks[0].permute(0, 2, 3, 1).flatten(0, 2)  # (N*h*w, K)
    expected = (cells[best.index] * best.weight[..., None]).sum(dim=1).T.view(1, 3, 6, 7)
    with torch.autocast("cpu", torch.bfloat16):
        found = Readout(5, 3).read_clips(keys[:, :2], keys[:, 2], masks, values, TAU)
    torch.testing.assert_close(found.masks, expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"top_k": None, "radius": 30}, "give top_k"),
        ({"top_k": None, "permanent_radius": 30}, "give top_k"),
        ({"top_k": 0}, "top_k must be 1 or more.*found 0"),
        ({"radius": -1}, "radius must be above 0.*found -1"),
        ({"permanent_radius": 0}, "permanent_radius must be above 0"),
        ({"tau": 0}, "tau must be above 0"),
        ({"top_k": 10, "coarse_to_fine": 2}, "coarse_to_fine 2 with top_k 10"),
        ({"top_k": None, "coarse_to_fine": 8}, "coarse_to_fine 8 with top_k None"),
        ({"topk": 3}, "topk.*top_k, radius, permanent_radius, tau"),
        (7, "7.*top_k, radius, permanent_radius, tau"),
    ],
)
def test_a_wrong_setting_is_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        Readout.of(settings)


def test_from_coarse_to_fine_gradients_are_those_of_the_cells_it_finds():
    torch.manual_seed(0)
    keys_r = F.normalize(torch.randn(1, 3, 6, 4, 5), dim=2).requires_grad_()
    key_q = F.normalize(torch.randn(1, 6, 4, 5), dim=1).requires_grad_()
    masks, values = torch.rand(1, 3, 2, 4, 5), torch.rand(1, 3, 2, 3, 4, 5).requires_grad_()
    inputs = (keys_r, key_q, values)
    exact, ours = (  # 18 coarse cells are all there are
        Readout(5, None, None, coarse_to_fine=parents).read_clips(keys_r, key_q, masks, values, TAU).values
        for parents in (None, 18)
    )
    torch.testing.assert_close(ours, exact)
    for got, expected in zip(
        torch.autograd.grad(ours.square().sum(), inputs),
        torch.autograd.grad(exact.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_settings_come_as_a_mapping_a_readout_or_none():
    assert Readout.of({"top_k": 5}) == Readout.of(Readout(top_k=5)) == Readout(5, 12, None, None)
    assert Readout.of(None) == Readout.of({}) == Readout()
