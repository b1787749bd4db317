"""Parts and casts of weights are made once a step: the same gradients, in fewer operations."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vos_umec.models.factory import build_network
from vos_umec.models.layers import weights_prepared_once


class Casts(TorchDispatchMode):
    """Counts what is cast to bf16, by its shape."""

    def __init__(self):
        super().__init__()
        self.shapes = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype") == torch.bfloat16:
            self.shapes[tuple(args[0].shape)] += 1
        return func(*args, **(kwargs or {}))


def loss(network, frames, masks):
    """Two frames, each embedded and decoded with two rounds."""
    total = 0.0
    for frame in frames:
        features = network.encoder(frame)
        values = network.embed(frame, features, masks)
        logits = network.decode(frame, features, values, network.to_grid(masks), rounds=2)
        total = total + sum(each.clamp(-4, 4).square().mean() for each in logits)
    return total


def network():
    """V has biases in place of batch norms, and D sees the frame."""
    made = build_network({"preset": "compact", "decoder": {"evidence": False}}).eval()
    torch.nn.init.normal_(made.decoder.out.weight, std=0.1)  # it starts at 0, and hides all that comes before
    return made


@pytest.fixture
def inputs():
    return torch.rand(2, 1, 3, 32, 32), torch.rand(1, 2, 32, 32)


def gradients(network, once, *inputs):
    network.zero_grad()
    if once:
        with weights_prepared_once():
            loss(network, *inputs).backward()
    else:
        loss(network, *inputs).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_gradients_stay_the_same(inputs):
    net = network()
    torch.testing.assert_close(gradients(net, True, *inputs), gradients(net, False, *inputs))


def test_each_weight_is_cast_once(inputs):
    net = network()
    shapes = Counter(tuple(p.shape) for p in net.parameters())
    parts = [(24, 1, 7, 7), (24, 3, 7, 7), (16, 1, 3, 3), (16, 3, 3, 3)]  # of the convs over a frame and a mask
    with Casts() as casts, torch.autocast("cpu", torch.bfloat16), weights_prepared_once():
        loss(net, *inputs)
    assert {casts.shapes[part] for part in parts} == {1}
    assert all(casts.shapes[shape] <= number for shape, number in shapes.items() if len(shape) > 1)


def test_nothing_is_kept_afterwards(inputs):
    net = network()
    with torch.no_grad():
        with weights_prepared_once():
            before = loss(net, *inputs)
        for weight in net.parameters():
            weight.mul_(1.2)
        after = loss(net, *inputs)
        assert not torch.allclose(after, before)
        with weights_prepared_once():
            torch.testing.assert_close(loss(net, *inputs), after)
