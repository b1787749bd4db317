import pytest
import torch
from objective_toys import PooledEncoder, moving_clip, still_clip

from vos_umec.errors import ConfigError
from vos_umec.models.encoder import Features, ResNetEncoder
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.frame_similarity import FrameSimilarityObjective
from vos_umec.training.module import UMECModule


def slow_frame_similarity(E, objective, frames):
    """The equation, frame by frame, with the same draw."""
    B, T = frames.shape[:2]
    step = int(torch.randint(1, T, ()))
    z = [[E(frames[b, t][None]).key[0].mean(dim=(1, 2)) for t in range(T)] for b in range(B)]
    first, norm, _, second = objective.predictor
    hidden = torch.stack([first.weight @ z[b][t] for b in range(B) for t in range(T)])
    spread = ((hidden - hidden.mean(dim=0)) ** 2).mean(dim=0)
    hidden = (hidden - hidden.mean(dim=0)) / (spread + norm.eps).sqrt()
    predicted = [second.weight @ row.clamp(min=0) + second.bias for row in hidden]
    total = 0.0
    for b in range(B):
        for t in range(T):
            p, target = predicted[b * T + t], z[b][(t - step) % T].detach()
            total = total - p.dot(target) / (p.norm() * target.norm())
    return total / (B * T)


def test_equals_the_loop_with_gradients():
    E, objective = PooledEncoder(dim=6), FrameSimilarityObjective(key_dim=6, hidden_dim=4).double()
    frames = torch.randn(3, 4, 3, 12, 8, dtype=torch.float64)
    torch.manual_seed(5)
    fast = objective(EncodedClip(E, frames, torch.arange(4).expand(3, 4)))
    torch.manual_seed(5)
    slow = slow_frame_similarity(E, objective, frames)
    torch.testing.assert_close(fast["loss"], slow)
    torch.testing.assert_close(fast["frame_similarity"], -slow.detach())
    weights = [*E.parameters(), objective.predictor[0].weight, *objective.predictor[3].parameters()]
    got, expected = (torch.autograd.grad(loss, weights) for loss in (fast["loss"], slow))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)


def test_the_predictor_s_gradient_is_that_of_finite_differences():
    E, objective = PooledEncoder(dim=4), FrameSimilarityObjective(key_dim=4, hidden_dim=3).double()
    clip = EncodedClip(E, torch.randn(2, 2, 3, 8, 8, dtype=torch.float64), torch.arange(2).expand(2, 2))
    names, weights = zip(*objective.named_parameters(), strict=True)

    def loss(*values):
        return torch.func.functional_call(objective, dict(zip(names, values, strict=True)), (clip,))["loss"]

    E.requires_grad_(False)
    assert torch.autograd.gradcheck(loss, weights)


def test_deviation_is_none_for_one_output_and_about_one_for_any_direction():
    objective = FrameSimilarityObjective(key_dim=64)

    class Fixed(torch.nn.Module):
        def __init__(self, z):
            super().__init__()
            self.z = z

        def forward(self, x):
            key = self.z[: len(x), :, None, None]
            return Features(key=key, trunk=key, skips=())

    clip = torch.rand(32, 2, 3, 8, 8), torch.zeros(32, 2)
    for z, least, most in ((torch.ones(64, 64), 0, 1e-6), (torch.randn(64, 64), 0.95, 1.05)):
        parts = objective(EncodedClip(Fixed(z), *clip))
        assert least <= float(parts["frame_deviation"]) <= most


def test_autocast_and_still_clips_stay_finite():
    E, objective = PooledEncoder(dtype=torch.float32), FrameSimilarityObjective(key_dim=16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = objective(EncodedClip(E, still_clip(1, 2, 8).float(), torch.zeros(1, 2)))
    parts["loss"].backward()
    assert all(p.isfinite().all() for p in parts.values())
    assert all(p.grad.isfinite().all() for p in [*E.parameters(), *objective.parameters()])


def test_settings_and_clips_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="hidden_dim=0"):
        FrameSimilarityObjective(hidden_dim=0)
    clips = EncodedClip(PooledEncoder(), torch.rand(1, 2, 3, 8, 8), torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="16 wide, but key_dim=64"):
        FrameSimilarityObjective(key_dim=64)(clips)
    with pytest.raises(ConfigError, match="2 frames"):
        FrameSimilarityObjective()(EncodedClip(PooledEncoder(), torch.rand(1, 1, 3, 8, 8), torch.zeros(1, 1)))


def test_the_optimiser_trains_the_predictor():
    spec = {"class_path": "vos_umec.FrameSimilarityObjective"}  # no key_dim: that of E
    module = UMECModule(network={"preset": "tiny", "encoder": {"key_dim": 24}}, objectives=[spec])
    trained = {id(p) for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    predictor = list(module.objectives[0].predictor.parameters())
    assert len(predictor) == 5
    assert predictor[0].shape[1] == module.network.encoder.key_dim == 24
    assert all(id(p) in trained for p in predictor)


@pytest.mark.slow
def test_a_small_encoder_learns_and_does_not_collapse():
    E, objective = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=32), FrameSimilarityObjective(key_dim=32)
    optimiser = torch.optim.Adam([*E.parameters(), *objective.parameters()], lr=3e-3)
    similarity, deviation = [], []
    for _ in range(30):
        parts = objective(EncodedClip(E, moving_clip(6, 3, 48), torch.arange(3).expand(6, 3)))
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        similarity.append(float(parts["frame_similarity"]))
        deviation.append(float(parts["frame_deviation"]))
    assert sum(similarity[-5:]) / 5 > sum(similarity[:5]) / 5 + 0.3, similarity
    assert min(deviation) > 0.1, deviation
