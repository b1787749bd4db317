import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_toys import PooledEncoder, gradcheck_weights, moving_clip

from vos_umec.errors import ConfigError
from vos_umec.models.encoder import ResNetEncoder
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.cells import random_cells
from vos_umec.objectives.colorization import ColorizationObjective, color_clusters, nearest_color
from vos_umec.transforms.color import from_lab, to_lab


def slow_colorization(E, frames, colors, references, samples, tau):
    """The equation, cell by cell, with the same draws in the same order."""
    B, T = frames.shape[:2]
    lab = to_lab(frames)
    pooled = F.avg_pool2d(lab[:, :, 1:].flatten(0, 1), E.stride)
    h, w = pooled.shape[-2:]
    points = pooled.permute(0, 2, 3, 1).reshape(B, T, h, w, 2)
    centres = color_clusters(points.reshape(-1, 2), colors)
    drawn = [random_cells(torch.ones(B, h, w, dtype=torch.bool), samples)[0] for _ in range(1, T)]

    def color(b, t, y, x):
        return min(range(colors), key=lambda k: float((points[b, t, y, x] - centres[k]).norm()))

    terms, right = [], 0
    for b in range(B):
        grey = lab[b] * torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)[:, None, None]
        keys = E(from_lab(grey)).key
        for t in range(1, T):
            for cell in drawn[t - 1][b].tolist():
                y, x = divmod(cell, w)
                weight = torch.zeros(colors, dtype=torch.float64)
                for r in range(max(0, t - references), t):
                    for i in range(h):
                        for j in range(w):
                            pull = torch.exp(keys[t, :, y, x].dot(keys[r, :, i, j]) / tau)
                            weight = weight + F.one_hot(torch.tensor(color(b, r, i, j)), colors) * pull
                own = color(b, t, y, x)
                if weight[own] > 0:
                    terms.append(-torch.log(weight[own] / weight.sum()))
                    right += int(weight.argmax()) == own
    return torch.stack(terms).mean(), right / len(terms)


def test_equals_the_loop_with_gradients():
    E = PooledEncoder(dim=5)
    frames = torch.randn(2, 4, 3, 12, 20, dtype=torch.float64)
    settings = {"colors": 6, "references": 2, "samples": 9, "tau": 0.2}
    torch.manual_seed(5)
    fast = ColorizationObjective(**settings)(EncodedClip(E, frames, torch.arange(4).expand(2, 4)))
    torch.manual_seed(5)
    slow, right = slow_colorization(E, frames, **settings)
    assert float(fast["loss"].detach()) == pytest.approx(float(slow.detach()), rel=1e-5)  # the affinity is fp32
    assert float(fast["colorization_accuracy"]) == pytest.approx(right)
    weights = list(E.parameters())
    got, expected = (torch.autograd.grad(loss, weights) for loss in (fast["loss"], slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-3, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    frames = torch.randn(1, 3, 3, 12, 8, dtype=torch.float64)
    objective = ColorizationObjective(colors=3, tau=0.5)
    assert gradcheck_weights(objective, PooledEncoder(dim=4), frames, eps=1e-3, atol=2e-3)


def test_keys_that_are_all_alike_point_everywhere():
    class Alike(PooledEncoder):
        def forward(self, x):
            return super().forward(0 * x)

    parts = ColorizationObjective()(EncodedClip(Alike(), torch.randn(2, 4, 3, 32, 32), torch.zeros(2, 4)))
    torch.testing.assert_close(parts["colorization"], parts["colorization_alike"], atol=1e-4, rtol=0)


def test_the_encoder_sees_no_color_and_finds_colors_by_brightness():
    class Watching(PooledEncoder):
        def forward(self, x):
            self.seen = x.detach()
            return super().forward(x)

    E = Watching(dim=256, spread=50.0)
    lab = torch.zeros(1, 2, 3, 32, 32, dtype=torch.float64)
    lab[:, :, 0] = torch.rand(8, 8).repeat_interleave(4, 0).repeat_interleave(4, 1)  # every cell its own grey
    lab[:, :, 1:] = torch.rand(2, 8, 8).repeat_interleave(4, 1).repeat_interleave(4, 2)
    parts = ColorizationObjective(tau=1e-3)(EncodedClip(E, from_lab(lab), torch.arange(2)[None]))
    assert float(to_lab(E.seen)[:, 1:].abs().max()) < 1e-9
    assert float(parts["loss"].detach()) < 0.05 < 1 < float(parts["colorization_alike"])
    assert float(parts["colorization_accuracy"]) > 0.98


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 9))
def test_clusters_are_a_fixed_point_and_no_worse_than_one(count, n, seed):
    torch.manual_seed(seed)
    points = torch.rand(n, 2, dtype=torch.float64)
    centres = color_clusters(points, count, iterations=50)
    labels = nearest_color(points, centres)
    for k in labels.unique().tolist():
        torch.testing.assert_close(centres[k], points[labels == k].mean(dim=0))
    spread = (points - centres[labels]).square().sum()
    assert float(spread) <= float((points - points.mean(dim=0)).square().sum()) + 1e-9


def test_grey_clips_and_autocast_stay_finite():
    for frames in (torch.zeros(2, 2, 3, 4, 4), torch.rand(2, 2, 3, 36, 36)):
        E = PooledEncoder(dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            parts = ColorizationObjective()(EncodedClip(E, frames, torch.zeros(2, 2)))
        parts["loss"].backward()
        assert all(p.isfinite().all() for p in parts.values())
        assert all(p.grad.isfinite().all() for p in E.parameters())


def test_settings_and_clips_that_cannot_work_are_refused():
    for wrong in ({"colors": 1}, {"references": 0}, {"samples": 0}, {"tau": 0.0}):
        with pytest.raises(ConfigError, match="{}={}".format(*next(iter(wrong.items())))):
            ColorizationObjective(**wrong)
    with pytest.raises(ConfigError, match="2 frames"):
        ColorizationObjective()(EncodedClip(PooledEncoder(), torch.rand(1, 1, 3, 16, 16), torch.zeros(1, 1)))


@pytest.mark.slow
def test_a_small_encoder_learns():
    E, objective = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=32), ColorizationObjective()
    optimiser = torch.optim.Adam(E.parameters(), lr=1e-3)
    history = []
    for _ in range(25):
        parts = objective(EncodedClip(E, moving_clip(4, 3, 48), torch.arange(3).expand(4, 3)))
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        history.append(float(parts["colorization"] / parts["colorization_alike"]))
    assert sum(history[-5:]) < 0.93 * sum(history[:5]), history
