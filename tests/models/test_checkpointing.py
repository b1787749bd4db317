import copy

import pytest
import torch
from torch import nn

from vos_umec import UMECModule
from vos_umec.errors import ConfigError
from vos_umec.models.resnet import ResNetTrunk, checkpoint_blocks
from vos_umec.objectives.propagation import propagate_masks


def train_step(module, frames, masks):
    """One loss through E, V and D, backward."""
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        features = module.network.encoder(frames.flatten(0, 1))
        outputs = propagate_masks(module.network, frames, features, masks, torch.ones(2, 2).bool())
        loss = sum(logits.square().mean() for rounds in outputs for logits in rounds)
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("synchronised", [False, True])  # in one process it computes what BatchNorm2d does
def test_gradients_and_running_statistics_stay_the_same(synchronised):
    torch.manual_seed(0)
    plain = UMECModule(network="tiny")
    lean = UMECModule(network={"preset": "tiny", "gradient_checkpointing": True})
    lean.load_state_dict(plain.state_dict())
    if synchronised:
        lean = nn.SyncBatchNorm.convert_sync_batchnorm(lean)
    frames, masks = torch.rand(2, 3, 3, 32, 32), torch.rand(2, 3, 2, 32, 32)
    assert train_step(plain, frames, masks) == train_step(lean, frames, masks)
    for (name, a), b in zip(plain.named_parameters(), lean.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(plain.named_buffers(), lean.buffers(), strict=True):
        assert torch.equal(a, b), name
    assert [name for name, _ in plain.named_buffers()] == [name for name, _ in lean.named_buffers()]


def test_fewer_activations_are_kept():
    kept = []
    for lean in (False, True):
        trunk = ResNetTrunk(blocks=(2, 2), strides=(1, 2))
        if lean:
            checkpoint_blocks(trunk)
        saved = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=saved: s.setdefault(t.data_ptr(), t), lambda t: t
        ):
            trunk(torch.rand(2, 3, 64, 64))
        parameters = {p.data_ptr() for p in trunk.parameters()}
        kept.append(sum(t.nbytes for place, t in saved.items() if place not in parameters))
    assert kept[1] < 0.6 * kept[0]


def test_frozen_norms_and_evaluation_are_left_as_they_are():
    trunk = ResNetTrunk(blocks=(1, 1), strides=(1, 2))
    checkpoint_blocks(trunk)
    trunk.stages[0].eval()
    before = copy.deepcopy(trunk.state_dict())
    trunk(torch.rand(2, 3, 32, 32))[-1].sum().backward()
    for name, value in trunk.state_dict().items():
        frozen = name.startswith("stages.0") or ("running" not in name and "tracked" not in name)
        assert torch.equal(value, before[name]) == frozen, name
    assert all(norm.momentum == 0.1 for norm in trunk.modules() if isinstance(norm, nn.BatchNorm2d))
    with torch.no_grad():
        trunk.eval()(torch.rand(1, 3, 32, 32))


def test_a_network_without_trunks_is_refused():
    with pytest.raises(ConfigError, match="Conv2d has none"):
        checkpoint_blocks(nn.Conv2d(3, 3, 1))
