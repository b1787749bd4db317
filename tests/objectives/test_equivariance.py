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
from vos_umec.objectives.equivariance import EquivarianceObjective, _best_nearby, _choose_frames
from vos_umec.transforms.geometric import GeometricTransform


def slow_equivariance(E, frames, indices, w_short, w_long, tau, anchors, cells, search, long_gap):
    """Both terms cell by cell, with the same draws in the same order."""
    B, T, _, H, W = frames.shape
    dice, again = torch.rand(B, T, T), torch.rand(B, T)
    chosen, near, has_near, far = [], [], [], []
    for b in range(B):
        times = indices[b].tolist()
        pairs = [(i, j) for i in range(T) for j in range(T) if abs(times[i] - times[j]) >= long_gap]
        i, _ = max(pairs or [(i, j) for i in range(T) for j in range(T)], key=lambda p: float(dice[b][p]))
        chosen.append(i)
        others = [k for k in range(T) if times[k] != times[i]]
        near.append(min(others, key=lambda k: (abs(times[k] - times[i]), times[k] < times[i])))
        has_near.append(abs(times[near[-1]] - times[i]) <= long_gap)
        others = [k for k in range(T) if k != i]
        others.sort(key=lambda k: (abs(times[k] - times[i]) < long_gap, -float(again[b, k])))
        far.append(others[: T // 2])
    phi = GeometricTransform.sample(B, (H, W))
    alone = [GeometricTransform(phi.matrix[b : b + 1], (H, W), (H, W)) for b in range(B)]

    def key(b, t):
        return E(frames[b, t][None]).key[0]

    def warped(b, t):  # Phi(E(I_t))
        return F.normalize(alone[b].apply_features(key(b, t)[None])[0], dim=0)

    def seen(b, t):  # E(Phi(I_t))
        return E(alone[b].apply_image(frames[b, t][None])).key[0]

    h, w = key(0, 0).shape[1:]
    x, y = [], []
    for b, lattice in enumerate(jittered_grid(B, (h, w), cells).tolist()):
        view, after = seen(b, chosen[b]), warped(b, near[b])
        for c in lattice:
            i, j = divmod(c, w)
            around = [(u, v) for u in range(h) for v in range(w) if max(abs(u - i), abs(v - j)) <= search]
            u, v = max(around, key=lambda p: float(torch.dot(view[:, i, j], after[:, p[0], p[1]]).detach()))
            x.append(view[:, i, j])
            y.append(after[:, u, v])
    x, y = (torch.stack(v).unflatten(0, (B, -1)) for v in (x, y))
    short, found = slow_info_nce(x, y, torch.tensor(has_near)[:, None].expand(x.shape[:2]), tau)

    lattices = jittered_grid(B, (h, w), anchors).tolist()
    anchored = torch.stack(
        [torch.stack([key(b, chosen[b])[:, c // w, c % w] for c in lattices[b]]) for b in range(B)]
    )
    students, teachers = (
        torch.stack([torch.stack([maps(b, t) for t in far[b]]) for b in range(B)]) for maps in (warped, seen)
    )
    long, agree = slow_anchor_cross_entropy(students, teachers, anchored, tau)
    return w_short * short + w_long * long, found, agree


@pytest.mark.parametrize(("w_short", "w_long"), [(1.0, 0.0), (0.0, 1.0), (0.1, 1.0)])
def test_equals_the_equations_with_gradients(w_short, w_long):
    E = PooledEncoder(dim=5)
    frames = torch.rand(4, 4, 3, 16, 20, dtype=torch.float64)
    # Two runs, out of order, too short for the long term, too far apart for the short one.
    indices = torch.tensor([[0, 1, 9, 10], [9, 2, 5, 12], [1, 2, 3, 4], [0, 20, 10, 30]])
    settings = {"tau": 0.3, "anchors": 3, "cells": 2, "search": 1, "long_gap": 5}
    objective = EquivarianceObjective(w_short, w_long, **settings)
    torch.manual_seed(11)
    fast = objective(EncodedClip(E, frames, indices))
    torch.manual_seed(11)
    slow, found, agree = slow_equivariance(E, frames, indices, w_short, w_long, **settings)
    torch.testing.assert_close(fast["loss"], slow)
    torch.testing.assert_close(fast["loss"].detach(), w_short * fast["short"] + w_long * fast["long"])
    assert float(fast["short_accuracy"]) == pytest.approx(found)
    assert float(fast["long_accuracy"]) == pytest.approx(agree)
    assert float(fast["short_fraction"]) == 3 / 4
    weights = list(E.parameters())
    got, expected = (torch.autograd.grad(loss, weights) for loss in (fast["loss"], slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)


def far_apart(B, T):
    """Frames 5 apart, which both terms take."""
    return (5 * torch.arange(T)).expand(B, T)


def test_near_is_a_frame_of_the_same_run_and_far_are_those_of_the_others():
    """Near also for the last frame of a run, whose successor in the clip is far away."""
    chosen, near, has_near, far, is_far = _choose_frames(torch.tensor([0, 1, 30, 31]).expand(64, 4), 5)
    assert set(chosen.tolist()) == {0, 1, 2, 3}
    assert near.tolist() == [{0: 1, 1: 0, 2: 3, 3: 2}[place] for place in chosen.tolist()]
    assert [set(each) for each in far.tolist()] == [{2, 3} if place < 2 else {0, 1} for place in chosen.tolist()]
    assert has_near.all()
    assert is_far.all()
    (middle, near, *_) = _choose_frames(torch.tensor([4, 5, 6, 40]).expand(64, 4), 5)
    assert (near[middle == 1] == 2).all(), "the later of two neighbors, as in eq. 7"


def test_clips_without_near_or_far_frames():
    indices = torch.tensor([[0, 1, 2], [0, 10, 20], [3, 3, 3]])
    for _ in range(20):
        chosen, _, has_near, far, is_far = _choose_frames(indices, 5)
        assert has_near.tolist() == [True, False, False]
        assert is_far.tolist() == [[False], [True], [False]]
        assert (far[:, 0] != chosen).all(), "always another frame"
    chosen, _, _, far, is_far = _choose_frames(torch.arange(8).expand(64, 8), 5)
    distance = (far - chosen[:, None]).abs()
    assert torch.equal(is_far, distance >= 5)
    assert is_far.any(dim=1).all(), "t' is a frame that has a far one"
    assert (is_far.sum(dim=1) == torch.maximum(7 - chosen, chosen) - 4).all(), "all of them, before any other"


def test_the_match_is_the_most_similar_cell_nearby():
    x = torch.eye(3)[None, :, :]  # (1, S, D), one vector a cell
    maps = torch.zeros(1, 3, 5, 6)
    maps[0, 0, 0, 0] = maps[0, 1, 4, 5] = maps[0, 2, 2, 5] = 1.0  # the whole frame has one match of each
    cells = torch.tensor([[1 * 6 + 2, 2 * 6 + 3, 2 * 6 + 2]])  # 2 away, 2 away, 3 away
    found = _best_nearby(x, maps, cells, reach=2)[0].tolist()
    assert found[:2] == [0, 4 * 6 + 5]
    assert found[2] != 2 * 6 + 5
    assert _best_nearby(x, maps, cells, reach=3)[0, 2] == 2 * 6 + 5
    assert torch.equal(_best_nearby(x, maps, cells, reach=0), cells)


@pytest.mark.parametrize(
    ("indices", "weights", "message"),
    [
        (
            [[0, 1, 2], [5, 6, 7]],
            (1.0, 1.0),
            r"long term \(at least 5 .*6 pairs 1 to 2 frames apart \(median 1\).*gap",
        ),
        ([[0, 10, 20]], (1.0, 1.0), r"short term \(at most 5 .*3 pairs 10 to 20 frames"),
        ([[4, 4]], (1.0, 0.0), r"short term .*no pairs"),
        ([[0, 1, 2]], (1.0, 0.0), None),
        ([[0, 10, 20]], (0.0, 1.0), None),
        ([[0, 1, 2], [0, 10, 20]], (1.0, 1.0), None),
        ([[4, 4]], (0.0, 0.0), None),
    ],
)
def test_a_term_without_a_pair_of_frames_is_refused(indices, weights, message):
    objective, indices = EquivarianceObjective(*weights), torch.tensor(indices)
    if message is None:
        assert objective.describe_pairs(indices).startswith("EquivarianceObjective: ")
        return
    with pytest.raises(ConfigError, match=message) as refused:
        objective.describe_pairs(indices)
    assert "\n" not in str(refused.value)


def test_pairs_are_counted_by_term():
    told = EquivarianceObjective().describe_pairs(torch.tensor([[0, 1, 2, 30, 31], [7, 8, 9, 20, 21]]))
    short, long = told.removeprefix("EquivarianceObjective: ").split("; ")
    assert short == "8 pairs 1 to 2 frames apart (median 1), for the short term (at most 5 frames apart)"
    assert long == "12 pairs 11 to 31 frames apart (median 14), for the long term (at least 5 frames apart)"


class RollingEncoder(PooledEncoder):
    """Not equivariant at all: moves every other batch of frames sideways."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x.roll(12 * (self.calls % 2), dims=-1))


@pytest.mark.parametrize("terms", [(1.0, 0.0), (0.0, 1.0)])
def test_an_equivariant_encoder_on_still_clips_pays_nothing_and_another_much(terms):
    settings = {"tau": 0.01, "phi_scale": (1.0, 1.0), "flip": 0.5}  # 8 x 8 anchors on as many cells
    clip = still_clip(4, 3, 32)
    right = EquivarianceObjective(*terms, **settings)(
        EncodedClip(PooledEncoder(dim=256, spread=50.0), clip, far_apart(4, 3))
    )
    assert float(right["loss"].detach()) < 1e-5
    assert float(right["short_accuracy"]) == float(right["long_accuracy"]) == 1
    torch.manual_seed(0)
    wrong = EquivarianceObjective(*terms, **settings, search=0)(
        EncodedClip(RollingEncoder(dim=256, spread=50.0), clip, far_apart(4, 3))
    )
    assert float(wrong["loss"].detach()) > 1


def test_frames_of_other_content_cost_the_short_term_more():
    E = PooledEncoder(dim=64, spread=20.0)
    objective = EquivarianceObjective(1.0, 0.0, phi_scale=(1.0, 1.0))
    still = still_clip(4, 3, 32)
    shuffled = torch.rand(4, 3, 3, 32, 32, dtype=torch.float64)  # no frame shows what another shows
    costs = []
    for frames in (still, shuffled):
        torch.manual_seed(1)
        costs.append(float(objective(EncodedClip(E, frames, far_apart(4, 3)))["loss"].detach()))
    assert costs[1] > costs[0] + 1


class RecordingEncoder(PooledEncoder):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.seen = {}

    def forward(self, x):
        features = super().forward(x)
        if features.key.requires_grad:
            features.key.retain_grad()
            self.seen[len(x)] = features.key
        return features


def has_gradient(key):
    return (key.grad if key.grad is not None else torch.zeros_like(key)).flatten(1).abs().amax(dim=1) > 0


def test_gradients_reach_the_encoder_from_the_intended_side():
    def frames_with_gradient(*weights):
        """How many frames of each clip have a gradient in E(I), and of the views E(Phi(I_t'))."""
        E = RecordingEncoder()
        frames = torch.rand(3, 4, 3, 32, 32, dtype=torch.float64)
        EquivarianceObjective(*weights)(EncodedClip(E, frames, torch.tensor([0, 1, 9, 10]).expand(3, 4)))[
            "loss"
        ].backward()
        return has_gradient(E.seen[12]).view(3, 4).sum(dim=1).tolist(), int(has_gradient(E.seen[3]).sum())

    assert frames_with_gradient(1.0, 0.0) == ([1, 1, 1], 3), "Phi(E(I_t'+1)) and E(Phi(I_t'))"
    assert frames_with_gradient(0.0, 1.0) == ([3, 3, 3], 0), "E(I_t'), two Phi(E(I_t)), no label"
    assert frames_with_gradient(1.0, 1.0) == ([4, 4, 4], 3)


def test_clips_without_a_near_frame_are_left_out_of_the_short_term_alone():
    E = PooledEncoder()
    frames = torch.rand(2, 3, 3, 32, 32, dtype=torch.float64)
    none = EquivarianceObjective()(EncodedClip(E, frames, 10 * torch.arange(3).expand(2, 3)))
    none["loss"].backward()
    assert float(none["short"]) == float(none["short_fraction"]) == float(none["short_accuracy"]) == 0
    assert float(none["long"]) > 0
    assert E.weight.grad.isfinite().all()
    assert E.weight.grad.abs().sum() > 0
    repeated = EquivarianceObjective()(EncodedClip(E, frames, torch.zeros(2, 3, dtype=torch.long)))
    assert all(p.isfinite() for p in repeated.values())


def test_one_cell_and_bfloat16_stay_finite():
    for side in (4, 32):
        E = PooledEncoder(dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            parts = EquivarianceObjective()(EncodedClip(E, torch.rand(2, 2, 3, side, side), far_apart(2, 2)))
        parts["loss"].backward()
        assert parts["loss"].dtype == torch.float32
        assert all(p.isfinite() for p in parts.values())
        assert all(p.grad.isfinite().all() for p in E.parameters())


def test_settings_and_clips_that_cannot_work_are_refused():
    for wrong in ({"tau": 0.0}, {"anchors": 0}, {"cells": 0}, {"long_gap": 0}, {"search": -1}):
        with pytest.raises(ConfigError, match="{}={}".format(*next(iter(wrong.items())))):
            EquivarianceObjective(**wrong)
    with pytest.raises(ConfigError, match="2 frames"):
        EquivarianceObjective()(EncodedClip(PooledEncoder(), torch.rand(1, 1, 3, 16, 16), torch.zeros(1, 1)))


@pytest.mark.slow
def test_a_small_encoder_learns():
    E, objective = ConvEncoder(), EquivarianceObjective(w_short=1.0)
    optimiser = torch.optim.Adam(E.parameters(), lr=2e-3)
    history = []
    for _ in range(80):
        parts = objective(EncodedClip(E, moving_clip(4, 3, 48), far_apart(4, 3)))
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        history.append([float(parts["short_accuracy"]), float(parts["long_accuracy"])])
    start, end = torch.tensor(history[:10]).mean(dim=0), torch.tensor(history[-10:]).mean(dim=0)
    assert (end > start + 0.1).all(), (start, end)
