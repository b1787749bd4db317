import re

import pytest
import torch
import torch.nn.functional as F
from objective_toys import PooledEncoder, gradcheck_weights, moving_clip, still_clip

from vos_umec.errors import ConfigError
from vos_umec.models.encoder import ResNetEncoder
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.cycle_consistency import CycleConsistencyObjective
from vos_umec.transforms.geometric import GeometricTransform


def slow_cycle(E, frames, grid, patch, jitter, dropout, tau):
    """The equations, node by node and step by step, with the same draws in the same order."""
    B, T, _, H, W = frames.shape
    p = round(patch * min(H, W))
    P = grid**2
    scale = tuple(share**0.5 for share in jitter)
    phi = GeometricTransform.sample(B * T * P, (p, p), scale=scale, flip=0.0)
    dropped = torch.rand(2, B, T - 1, P, P) < dropout
    losses, right = [], 0
    for b in range(B):
        nodes = []
        for t in range(T):
            for i in range(P):
                y = round(i // grid * (H - p) / (grid - 1))
                x = round(i % grid * (W - p) / (grid - 1))
                own = GeometricTransform(phi.matrix[(b * T + t) * P + i][None], (p, p), (p, p))
                key = E(own.apply_image(frames[b, t][None, :, y : y + p, x : x + p])).key[0]
                nodes.append(F.normalize(key.mean(dim=(1, 2)), dim=0))

        def step(t, to, gone, nodes=nodes):
            """Transition matrix from frame t to frame `to`, without the edges that are gone."""
            rows = []
            for i in range(P):
                weights = [
                    torch.zeros(()).double()
                    if gone[i, j]
                    else torch.exp(nodes[t * P + i].dot(nodes[to * P + j]) / tau)
                    for j in range(P)
                ]
                rows.append(torch.stack(weights) / sum(weights))
            return torch.stack(rows)

        def cycle(k, gone):
            walk = torch.eye(P, dtype=torch.float64)
            for t in range(k):
                walk = walk @ step(t, t + 1, gone[0, t])
            for t in range(k, 0, -1):
                walk = walk @ step(t, t - 1, gone[1, t - 1])
            return walk

        losses += [-cycle(k, dropped[:, b])[i, i].log() for k in range(2, T) for i in range(P)]
        whole = cycle(T - 1, torch.zeros_like(dropped[:, b]))
        right += sum(int(whole[i].argmax()) == i for i in range(P))
    return torch.stack(losses).mean(), right / (B * P)


def test_equals_the_loop_with_gradients():
    E = PooledEncoder(dim=5)
    frames = torch.randn(2, 4, 3, 24, 32, dtype=torch.float64)
    settings = {"grid": 3, "patch": 0.34, "jitter": (0.5, 0.8), "dropout": 0.1, "tau": 0.2}
    torch.manual_seed(5)
    fast = CycleConsistencyObjective(**settings)(EncodedClip(E, frames, torch.arange(4).expand(2, 4)))
    torch.manual_seed(5)
    slow, right = slow_cycle(E, frames, **settings)
    torch.testing.assert_close(fast["loss"], slow)
    torch.testing.assert_close(fast["cycle"], slow.detach())
    assert float(fast["cycle_accuracy"]) == pytest.approx(right)
    weights = list(E.parameters())
    got, expected = (torch.autograd.grad(loss, weights) for loss in (fast["loss"], slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)


def test_the_gradient_is_that_of_finite_differences():
    objective = CycleConsistencyObjective(grid=2, patch=0.5, tau=0.5)
    assert gradcheck_weights(objective, PooledEncoder(dim=4), torch.randn(1, 3, 3, 8, 8, dtype=torch.float64))


@pytest.mark.parametrize(("side", "first", "step"), [(256, 64, 32), (128, 32, 16)])
def test_the_published_grid(side, first, step):
    """7 x 7 patches, 64 px each 32 px on 256 px, and half of both on half the crop."""
    rows = torch.arange(float(side))[:, None].expand(side, side)
    frames = torch.stack((rows, rows.T, rows))[None]
    patches = CycleConsistencyObjective(jitter=(1.0, 1.0))._patches(frames)
    assert patches.shape == (49, 3, first, first)
    corners = [[step * (i // 7), step * (i % 7)] for i in range(49)]
    torch.testing.assert_close(patches[:, :2, 0, 0], torch.tensor(corners).float(), atol=1e-3, rtol=0)


def test_walks_are_distributions_and_dropout_removes_edges_each_way_on_its_own():
    nodes = F.normalize(torch.randn(2, 4, 9, 8), dim=-1)
    walks = CycleConsistencyObjective(grid=3)._walks(nodes, dropout=0.3)
    assert walks.shape == (2, 2, 9, 9)  # the cycles over 2 and over 3 frames
    torch.testing.assert_close(walks.sum(dim=-1), torch.ones(2, 2, 9))
    # Between equal frames whose nodes differ, a walk fails only where an edge is missing; 6 steps of a walk of 3
    # frames all survive with probability 0.7^6 when the ways are dropped separately, 0.7^3 if they were not.
    alike = torch.eye(49).expand(40, 4, 49, 49)
    walks = CycleConsistencyObjective(tau=0.01)._walks(alike, dropout=0.3)
    assert float((walks[-1].diagonal(dim1=1, dim2=2) > 0.5).float().mean()) == pytest.approx(0.7**6, abs=0.03)


def test_still_clips_of_patches_that_know_themselves_return():
    E = PooledEncoder(dim=256, spread=20.0)
    objective = CycleConsistencyObjective(grid=3, patch=0.3, jitter=(1.0, 1.0), dropout=0.0, tau=1e-3)
    parts = objective(EncodedClip(E, still_clip(2, 4, 40), torch.arange(4).expand(2, 4)))
    assert float(parts["loss"].detach()) < 1e-4
    assert float(parts["cycle_accuracy"]) == 1


def test_autocast_and_patches_of_one_cell_stay_finite():
    E = PooledEncoder(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = CycleConsistencyObjective()(EncodedClip(E, torch.rand(2, 3, 3, 16, 16), torch.zeros(2, 3)))
    parts["loss"].backward()
    assert all(p.isfinite().all() for p in parts.values())
    assert all(p.grad.isfinite().all() for p in E.parameters())


def test_settings_and_clips_that_cannot_work_are_refused():
    for wrong in ({"grid": 1}, {"patch": 0.0}, {"jitter": (0.9, 0.7)}, {"dropout": 1.0}, {"tau": 0.0}):
        with pytest.raises(ConfigError, match=re.escape("{}={}".format(*next(iter(wrong.items()))))):
            CycleConsistencyObjective(**wrong)
    clips = EncodedClip(PooledEncoder(), torch.rand(1, 2, 3, 16, 16), torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="3 frames"):
        CycleConsistencyObjective()(clips)
    with pytest.raises(ConfigError, match=r"0\.01 of 16 x 16"):
        CycleConsistencyObjective(patch=0.01)(
            EncodedClip(clips.encoder, torch.rand(1, 3, 3, 16, 16), torch.zeros(1, 3))
        )


@pytest.mark.slow
def test_a_small_encoder_learns():
    E, objective = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=32), CycleConsistencyObjective(grid=4)
    optimiser = torch.optim.Adam(E.parameters(), lr=1e-3)
    losses, found = [], []
    for _ in range(30):
        parts = objective(EncodedClip(E, moving_clip(4, 4, 64, step=1), torch.arange(4).expand(4, 4)))
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        losses.append(float(parts["cycle"]))
        found.append(float(parts["cycle_accuracy"]))
    assert losses[0] > 2.6, losses  # all keys alike: log 16 = 2.77
    assert sum(losses[-5:]) / 5 < 2, losses
    assert sum(found[-5:]) / 5 > 0.3, found  # by chance 0.06
