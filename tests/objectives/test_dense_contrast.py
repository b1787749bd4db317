import pytest
import torch
import torch.nn.functional as F
from objective_toys import (
    ConvEncoder,
    PooledEncoder,
    moving_clip,
    slow_anchor_cross_entropy,
    slow_info_nce,
    still_clip,
)

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.cells import jittered_grid
from vos_umec.objectives.dense_contrast import DenseContrastObjective, _choose_frames
from vos_umec.transforms.geometric import GeometricTransform


def slow_dense_contrast(E, frames, anchors, cross_anchors, tau, cross_tau, w_cross, **phi_settings):
    """The definition, cell by cell, with the same draws in the same order."""
    B, T, _, H, W = frames.shape
    a = torch.randint(T, (B, 1)).flatten().tolist()
    phi = GeometricTransform.sample(B, (H, W), **phi_settings)
    keys = [[E(frames[b, t][None]).key[0] for t in range(T)] for b in range(B)]
    views = phi.apply_image(frames)
    seen = [[E(views[b, t][None]).key[0] for t in range(T)] for b in range(B)]
    h, w = keys[0][0].shape[1:]
    warped = [
        [
            F.normalize(
                GeometricTransform(phi.matrix[b][None], (H, W), (H, W)).apply_features(keys[b][t][None])[0], dim=0
            )
            for t in range(T)
        ]
        for b in range(B)
    ]
    lattice = jittered_grid(B, (h, w), anchors)
    chosen = torch.stack(
        [torch.stack([keys[b][a[b]][:, c // w, c % w] for c in lattice[b].tolist()]) for b in range(B)]
    )
    rest = [[t for t in range(T) if t != a[b]] for b in range(B)]
    students, teachers = (
        torch.stack([torch.stack([maps[b][t] for t in rest[b]]) for b in range(B)]) for maps in (warped, seen)
    )
    dense, agree = slow_anchor_cross_entropy(students, teachers, chosen, tau)
    lattice = jittered_grid(B, (h, w), cross_anchors)
    pick = [[(c // w, c % w) for c in lattice[b].tolist()] for b in range(B)]
    x = torch.stack([torch.stack([warped[b][a[b]][:, i, j] for i, j in pick[b]]) for b in range(B)])
    y = torch.stack([torch.stack([seen[b][a[b]][:, i, j] for i, j in pick[b]]) for b in range(B)])
    cross, _ = slow_info_nce(x, y, torch.ones_like(lattice, dtype=torch.bool), cross_tau)
    return dense + w_cross * cross, agree


def test_equals_the_loop_with_gradients():
    E = PooledEncoder(dim=5)
    frames = torch.rand(2, 3, 3, 24, 16, dtype=torch.float64)
    settings = {"anchors": 2, "cross_anchors": 3, "tau": 0.2, "cross_tau": 0.3, "w_cross": 0.7}
    objective = DenseContrastObjective(**settings)
    torch.manual_seed(5)
    fast = objective(EncodedClip(E, frames, torch.arange(3).expand(2, 3)))
    torch.manual_seed(5)
    slow, agree = slow_dense_contrast(E, frames, scale=(0.5, 1.0), flip=0.5, **settings)
    torch.testing.assert_close(fast["loss"], slow)
    torch.testing.assert_close(fast["loss"].detach(), fast["dense"] + 0.7 * fast["cross"])
    assert float(fast["dense_accuracy"]) == pytest.approx(agree)
    weights = list(E.parameters())
    got, expected = (torch.autograd.grad(loss, weights) for loss in (fast["loss"], slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)


def test_still_clips_agree_with_their_labels_under_flips():
    E = PooledEncoder(dim=256, spread=50.0)
    objective = DenseContrastObjective(anchors=8, phi_scale=(1.0, 1.0), tau=0.01, cross_tau=0.01)
    parts = objective(EncodedClip(E, still_clip(2, 3, 32), torch.arange(3).expand(2, 3)))
    assert float(parts["dense_accuracy"]) == 1  # 8 x 8 anchors on an 8 x 8 grid: every cell is an anchor
    assert float(parts["loss"].detach()) < 1e-5
    assert float(parts["cross_accuracy"]) == 1


def test_any_frame_of_a_clip_gives_its_anchors():
    chosen, others = _choose_frames(300, 4, torch.device("cpu"))
    others = others.view(300, 3)
    for b in range(300):
        assert {int(chosen[b]), *others[b].tolist()} == set(range(4 * b, 4 * b + 4))
    assert torch.bincount(chosen % 4).min() > 50


def test_autocast_and_one_cell_grids_stay_finite():
    for side in (4, 32):
        E = PooledEncoder(dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            parts = DenseContrastObjective()(EncodedClip(E, torch.rand(2, 2, 3, side, side), torch.zeros(2, 2)))
        parts["loss"].backward()
        assert all(p.isfinite().all() for p in parts.values())
        assert all(p.grad.isfinite().all() for p in E.parameters())


def test_settings_and_clips_that_cannot_work_are_refused():
    for wrong in ({"tau": 0.0}, {"cross_tau": 0.0}, {"anchors": 0}, {"cross_anchors": 0}):
        with pytest.raises(ConfigError, match="{}={}".format(*next(iter(wrong.items())))):
            DenseContrastObjective(**wrong)
    with pytest.raises(ConfigError, match="2 frames"):
        DenseContrastObjective()(EncodedClip(PooledEncoder(), torch.rand(1, 1, 3, 16, 16), torch.zeros(1, 1)))


@pytest.mark.slow
def test_a_small_encoder_learns():
    E, objective = ConvEncoder(), DenseContrastObjective()
    optimiser = torch.optim.Adam(E.parameters(), lr=2e-3)
    history = []
    for _ in range(80):
        parts = objective(EncodedClip(E, moving_clip(4, 3, 48), torch.arange(3).expand(4, 3)))
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        history.append(float(parts["dense_accuracy"]))
    assert sum(history[-10:]) / 10 > sum(history[:10]) / 10 + 0.1, history
