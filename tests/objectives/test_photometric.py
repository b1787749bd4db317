import pytest
import torch
import torch.nn.functional as F
from objective_toys import ConvEncoder, PooledEncoder, gradcheck_weights, moving_clip, still_clip

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.photometric import PhotometricObjective
from vos_umec.transforms.color import from_lab, to_lab


def masked_readout(q, r, c, radius, tau):
    """Colors (1, h, w) at the query's cells: a softmax over the references' cells that are not far."""
    h, w = q.shape[-2:]
    row, column = torch.arange(h), torch.arange(w)
    far_rows = (row[:, None] - row).abs() > radius  # (h, h)
    far_columns = (column[:, None] - column).abs() > radius
    scores = torch.einsum("ndij,dyx->nijyx", r, q) / tau
    scores = scores.masked_fill(far_rows[:, None, :, None] | far_columns[None, :, None, :], -torch.inf)
    weights = scores.flatten(0, 2).softmax(dim=0).view_as(scores)
    return torch.einsum("nijyx,nkij->kyx", weights, c)


def slow_photometric(E, frames, references, radius, tau):
    """The equation, frame by frame, with the same draws in the same order."""
    B, T = frames.shape[:2]
    channel = torch.randint(1, 3, (B,)).tolist()
    losses = []
    for b in range(B):
        keys, colors = [], []
        for t in range(T):
            lab = to_lab(frames[b, t])
            altered = lab * 3 / 2
            altered[channel[b]] = 0
            keys.append(E(from_lab(altered)[None]).key[0])
            colors.append(F.avg_pool2d(lab[channel[b]][None], E.stride))
        for t in range(1, T):
            first = max(0, t - references)
            r, c = torch.stack(keys[first:t]), torch.stack(colors[first:t])
            difference = 20 * (masked_readout(keys[t], r, c, radius, tau) - colors[t]).abs()
            losses.append(torch.where(difference < 1, difference**2 / 2, difference - 0.5))
    return torch.stack(losses).mean()


def test_equals_the_loop_with_gradients():
    E = PooledEncoder(dim=5)
    frames = torch.randn(2, 4, 3, 24, 16, dtype=torch.float64)
    settings = {"references": 2, "radius": 1, "tau": 0.2}
    torch.manual_seed(5)
    fast = PhotometricObjective(**settings)(EncodedClip(E, frames, torch.arange(4).expand(2, 4)))
    torch.manual_seed(5)
    slow = slow_photometric(E, frames, **settings)
    torch.testing.assert_close(fast["loss"], slow)
    torch.testing.assert_close(fast["photometric"], slow.detach())
    weights = list(E.parameters())
    got, expected = (torch.autograd.grad(loss, weights) for loss in (fast["loss"], slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)


def test_the_gradient_is_that_of_finite_differences():
    clip = torch.randn(1, 3, 3, 12, 8, dtype=torch.float64)
    assert gradcheck_weights(PhotometricObjective(radius=1, tau=0.5), PooledEncoder(dim=4), clip)


class Watching(PooledEncoder):
    def forward(self, x):
        self.seen = x.detach()
        return super().forward(x)


def test_the_hidden_color_is_hidden():
    """Two clips that differ in nothing but the hidden channel look the same to E."""
    E = Watching()
    lab = to_lab(torch.randn(8, 1, 3, 16, 16, dtype=torch.float64)).expand(8, 2, 3, 16, 16)
    PhotometricObjective()(EncodedClip(E, from_lab(lab), torch.zeros(8, 2)))
    seen = to_lab(E.seen).unflatten(0, (8, 2))
    absent = seen.abs().amax(dim=(1, 3, 4)) < 1e-9  # (B, 3)
    assert not absent[:, 0].any()
    assert (absent[:, 1] ^ absent[:, 2]).all()  # one of a, b
    assert absent[:, 1].any()
    assert absent[:, 2].any()
    kept = ~absent[:, None, :, None, None].expand_as(seen)
    torch.testing.assert_close(seen[kept], 1.5 * lab[kept])


def test_still_clips_of_cells_that_know_themselves_are_rebuilt_exactly():
    E = PooledEncoder(dim=256, spread=50.0)
    parts = PhotometricObjective(tau=1e-3)(EncodedClip(E, still_clip(2, 3, 32), torch.arange(3).expand(2, 3)))
    assert float(parts["photometric_still"]) < 1e-12
    assert float(parts["loss"].detach()) < 1e-6


def test_autocast_and_one_cell_grids_stay_finite():
    for side in (4, 36):
        E = PooledEncoder(dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            parts = PhotometricObjective()(EncodedClip(E, torch.rand(2, 2, 3, side, side), torch.zeros(2, 2)))
        parts["loss"].backward()
        assert all(p.isfinite().all() for p in parts.values())
        assert all(p.grad.isfinite().all() for p in E.parameters())


def test_settings_and_clips_that_cannot_work_are_refused():
    for wrong in ({"references": 0}, {"radius": -1}, {"tau": 0.0}):
        with pytest.raises(ConfigError, match="{}={}".format(*next(iter(wrong.items())))):
            PhotometricObjective(**wrong)
    with pytest.raises(ConfigError, match="2 frames"):
        PhotometricObjective()(EncodedClip(PooledEncoder(), torch.rand(1, 1, 3, 16, 16), torch.zeros(1, 1)))


@pytest.mark.slow
def test_a_small_encoder_learns():
    E, objective = ConvEncoder(), PhotometricObjective(radius=4)
    optimiser = torch.optim.Adam(E.parameters(), lr=2e-3)
    history = []
    for _ in range(40):
        parts = objective(EncodedClip(E, moving_clip(4, 3, 48), torch.arange(3).expand(4, 3)))
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        history.append(float(parts["photometric"] / parts["photometric_still"]))
    assert sum(history[-10:]) < 0.85 * sum(history[:5]) * 2, history
