import pytest
import torch
import torch.nn.functional as F
from objective_toys import ConvEncoder, PooledEncoder, moving_clip, slow_info_nce, still_clip

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.cells import random_cells
from vos_umec.objectives.equivariance import EquivarianceObjective, _choose_frames
from vos_umec.transforms.geometric import GeometricTransform


def slow_equivariance(E, frames, indices, w_short, w_long, tau, samples, radius, long_gap):
    """Eq. 7 to 10 cell by cell, with the same draws in the same order."""
    B, T, _, H, W = frames.shape
    dice = torch.rand(B, T, T)
    moved, far, has_far, next_to, has_near = [], [], [], [], []
    for b in range(B):
        times = indices[b].tolist()
        pairs = [(i, j) for i in range(T) for j in range(T) if abs(times[i] - times[j]) >= long_gap]
        has_far.append(bool(pairs))
        i, j = max(pairs or [(i, j) for i in range(T) for j in range(T)], key=lambda p: float(dice[b][p]))
        moved.append(i)
        far.append(j)
        others = [k for k in range(T) if times[k] != times[i]]
        next_to.append(min(others, key=lambda k: (abs(times[k] - times[i]), times[k] < times[i])))
        has_near.append(abs(times[next_to[-1]] - times[i]) <= long_gap)
    phi = GeometricTransform.sample(B, (H, W))
    alone = [GeometricTransform(phi.matrix[b : b + 1], (H, W), (H, W)) for b in range(B)]

    def warped(b, t):
        return F.normalize(alone[b].apply_features(E(frames[b, t][None]).key)[0], dim=0)

    seen = [E(alone[b].apply_image(frames[b, moved[b]][None])).key[0] for b in range(B)]
    h, w = seen[0].shape[1:]

    cells, valid = random_cells(torch.tensor(has_near)[:, None, None].expand(B, h, w), samples)
    x = torch.stack([torch.stack([seen[b][:, c // w, c % w] for c in cells[b].tolist()]) for b in range(B)])
    y = torch.stack(
        [torch.stack([warped(b, next_to[b])[:, c // w, c % w] for c in cells[b].tolist()]) for b in range(B)]
    )
    short = slow_info_nce(x, y.detach(), cells, valid, w, tau, radius)[0]

    kept = torch.zeros(B, h, w, dtype=torch.bool)
    for b in range(B):
        for i in range(h):
            for j in range(w):  # the centre of the cell, moved by Phi, must lie inside the output
                u, v, _ = phi.matrix[b] @ torch.tensor(
                    [j * W / w + (W / w - 1) / 2, i * H / h + (H / h - 1) / 2, 1]
                )
                kept[b, i, j] = has_far[b] and -0.5 <= u <= W - 0.5 and -0.5 <= v <= H - 0.5
    cells, valid = random_cells(kept, samples)
    x, gathered = [], []
    for b in range(B):
        keys = E(frames[b, far[b]][None]).key[0]
        values = warped(b, moved[b]).detach()
        for c in cells[b].tolist():
            q = keys[:, c // w, c % w]
            weights = torch.stack([torch.dot(seen[b][:, i, j], q) / tau for i in range(h) for j in range(w)]).exp()
            weights = weights / weights.sum()
            r = sum(weights[i * w + j] * values[:, i, j] for i in range(h) for j in range(w))
            x.append(q)
            gathered.append(r / r.norm())
    x, gathered = (torch.stack(v).unflatten(0, cells.shape) for v in (x, gathered))
    return w_short * short + w_long * slow_info_nce(gathered, x, cells, valid, w, tau, radius)[0]


@pytest.mark.parametrize(("w_short", "w_long"), [(1.0, 0.0), (0.0, 1.0), (0.1, 1.0)])
def test_equals_the_equations_with_gradients(w_short, w_long):
    E = PooledEncoder(dim=5)
    frames = torch.rand(4, 3, 3, 16, 20, dtype=torch.float64)
    # Out of order the second, too short for the long term the third, too far apart for the short term the last.
    indices = torch.tensor([[0, 3, 6], [9, 2, 5], [1, 2, 3], [0, 20, 10]])
    settings = {"tau": 0.3, "samples": 7, "radius": 1.5, "long_gap": 5}
    objective = EquivarianceObjective(w_short, w_long, **settings)
    torch.manual_seed(11)
    fast = objective(EncodedClip(E, frames, indices))
    torch.manual_seed(11)
    slow = slow_equivariance(E, frames, indices, w_short, w_long, **settings)
    # The affinity is fp32 whatever its input.
    torch.testing.assert_close(fast["loss"], slow, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(fast["loss"].detach(), w_short * fast["short"] + w_long * fast["long"])
    assert float(fast["short_fraction"]) == float(fast["long_fraction"]) == 3 / 4
    weights = list(E.parameters())
    got, expected = (torch.autograd.grad(loss, weights) for loss in (fast["loss"], slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, atol=1e-5, rtol=1e-5)


def far_apart(B, T):
    """Frames 5 apart, which both terms take."""
    return (5 * torch.arange(T)).expand(B, T)


def test_the_nearest_frame_is_that_of_the_same_run():
    """Also for the last frame of a run, whose successor in the clip is far away."""
    indices = torch.tensor([0, 1, 30, 31]).expand(64, 4)
    moved, near, has_near, far, has_far = _choose_frames(indices, 5)
    assert set(moved.tolist()) == {0, 1, 2, 3}
    assert near.tolist() == [{0: 1, 1: 0, 2: 3, 3: 2}[place] for place in moved.tolist()]
    assert ((moved < 2) != (far < 2)).all()
    assert has_near.all()
    assert has_far.all()
    (middle, near, *_) = _choose_frames(torch.tensor([4, 5, 6, 40]).expand(64, 4), 5)
    assert (near[middle == 1] == 2).all(), "the later of two neighbors, as in eq. 7"
    _, _, has_near, _, has_far = _choose_frames(torch.tensor([[0, 1, 2], [0, 10, 20], [3, 3, 3]]), 5)
    assert (has_near.tolist(), has_far.tolist()) == ([True, False, False], [False, True, False])


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
    settings = {"tau": 0.01, "samples": 16, "phi_scale": (1.0, 1.0), "flip": 0.5}
    clip = still_clip(4, 3, 32)
    right = EquivarianceObjective(*terms, **settings)(
        EncodedClip(PooledEncoder(dim=256, spread=50.0), clip, far_apart(4, 3))
    )
    assert float(right["loss"].detach()) < 1e-5
    assert float(right["short_accuracy"]) == float(right["long_accuracy"]) == 1
    torch.manual_seed(0)
    wrong = EquivarianceObjective(*terms, **settings)(
        EncodedClip(RollingEncoder(dim=256, spread=50.0), clip, far_apart(4, 3))
    )
    assert float(wrong["loss"].detach()) > 1


def test_frames_in_another_order_of_content_cost_more():
    E = PooledEncoder(dim=64, spread=20.0)
    objective = EquivarianceObjective()
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
        features.key.retain_grad()
        self.seen[len(x)] = features.key
        return features


def has_gradient(key):
    return (key.grad if key.grad is not None else torch.zeros_like(key)).flatten(1).abs().amax(dim=1) > 0


def test_gradients_reach_the_encoder_from_the_intended_side():
    E = RecordingEncoder()
    clip = EncodedClip(E, torch.rand(3, 2, 3, 32, 32, dtype=torch.float64), far_apart(3, 2))
    EquivarianceObjective(1.0, 0.0)(clip)["loss"].backward()
    assert has_gradient(E.seen[3]).all()  # E(Phi(I_t))
    assert not has_gradient(E.seen[6]).any()  # Phi(E(I_t+1))

    E = RecordingEncoder()
    clip = EncodedClip(E, torch.rand(3, 2, 3, 32, 32, dtype=torch.float64), far_apart(3, 2))
    EquivarianceObjective(0.0, 1.0)(clip)["loss"].backward()
    assert has_gradient(E.seen[3]).all()  # through A
    frames = has_gradient(E.seen[6]).view(3, 2).sum(dim=1)  # E(I_t), not E(I_t')
    assert frames.tolist() == [1] * 3


def test_clips_too_short_for_the_long_term_are_left_out_of_it_alone():
    E = PooledEncoder()
    frames = torch.rand(2, 3, 3, 32, 32, dtype=torch.float64)
    none = EquivarianceObjective()(EncodedClip(E, frames, torch.arange(3).expand(2, 3)))
    none["loss"].backward()
    assert float(none["long"]) == float(none["long_fraction"]) == float(none["long_accuracy"]) == 0
    assert float(none["short"]) > 0
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
    for wrong in ({"tau": 0.0}, {"samples": 0}, {"long_gap": 0}):
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
