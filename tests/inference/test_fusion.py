import copy

import pytest
import torch
from torch import nn

from vos_umec.device import multiplies_bf16
from vos_umec.inference.fusion import fuse_for_inference
from vos_umec.models.factory import build_network


def used(preset):
    """A network whose batch norms have seen something."""
    torch.manual_seed(0)
    network = build_network({"preset": preset, "decoder": {"residual": False}})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.train()


def outputs(network):
    frame, masks = torch.rand(1, 3, 48, 64), torch.rand(1, 2, 48, 64)
    features = network.encoder(frame)
    values = network.embed(frame, features, masks)
    logits = network.decode(frame, features, values, network.to_grid(masks), rounds=2)
    return [features.key, features.trunk, *features.skips, values, logits[-1]]


@pytest.mark.parametrize("preset", ["tiny", "resnet50"])
def test_folding_changes_no_figure(preset):
    network = used(preset)
    with torch.inference_mode():
        torch.manual_seed(1)
        found = outputs(fuse_for_inference(network, bf16=False))
        torch.manual_seed(1)
        expected = outputs(network.eval())
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-3 * b.abs().max()


def test_synchronised_norms_are_folded_too():
    network = used("tiny")
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    lean = fuse_for_inference(synchronised, bf16=False)
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in lean.modules())
    frame = torch.rand(1, 3, 48, 64)
    with torch.inference_mode():
        found, expected = lean.encoder(frame).key, network.eval().encoder(frame).key
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_network_itself_stays_as_it_is():
    network = used("tiny")
    before = copy.deepcopy(network.state_dict())
    lean = fuse_for_inference(network, bf16=True)
    assert network.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in lean.modules())
    assert {m.weight.dtype for m in lean.modules() if isinstance(m, nn.Conv2d)} == {torch.bfloat16}


def test_in_bf16_keys_are_the_same_but_for_rounding():
    network = used("tiny")
    frame = torch.rand(1, 3, 48, 64)
    with torch.inference_mode():
        expected = network.eval().encoder(frame).key
        with torch.autocast("cpu", torch.bfloat16):
            found = fuse_for_inference(network, bf16=True).encoder(frame).key
    assert found.dtype == torch.float32
    assert (found * expected).sum(dim=1).min() > 0.999


def test_bf16_is_taken_only_where_it_is_known_to_be_quick():
    assert not multiplies_bf16("mps")
    assert isinstance(multiplies_bf16("cpu"), bool)
