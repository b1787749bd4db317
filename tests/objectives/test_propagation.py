"""Masks propagated through a clip, as training does it."""

import numpy as np
import pytest
import torch

from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.matching.readout import Readout
from vos_umec.models.factory import build_network
from vos_umec.objectives.propagation import propagate_masks
from vos_umec.transforms.augment import normalize


@pytest.mark.parametrize("readout", [Readout(5, 3, 4), Readout(3, None, None, tau=0.2)])
@pytest.mark.parametrize("memory_masks", ["final", "coarse", "coarse_vote"])
@pytest.mark.parametrize("drift", [0, 3])
def test_with_its_own_masks_it_computes_what_inference_does(readout, memory_masks, drift):
    torch.manual_seed(0)
    network = build_network({"preset": "tiny", "decoder": {"residual": False, "evidence": True}}).eval()
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
    ids = np.zeros((32, 48), np.uint8)
    ids[4:20, 8:24], ids[20:, 30:] = 1, 2

    segmenter = VideoSegmenter(
        network, 2, references=2, readout=readout, memory_masks=memory_masks, crop_margin=None, bf16=False
    )
    expected = [
        segmenter.step(frame, ids if t == 0 else None, return_probabilities=True)[1]
        for t, frame in enumerate(frames)
    ]
    clip = normalize(torch.from_numpy(frames).permute(0, 3, 1, 2))[None]  # (1, T, 3, H, W)
    masks = torch.from_numpy(np.stack([ids == 1, ids == 2])).float().expand(1, 5, 2, 32, 48)
    with torch.no_grad():
        outputs = propagate_masks(
            network, clip, network.encoder(clip[0]), masks, torch.ones(1, 2).bool(),
            rounds=2, references=3, own_mask_probability=1.0, readout=readout, memory_masks=memory_masks,
            drift=drift,
        )  # fmt: skip
    for rounds, p in zip(outputs, expected[1 + drift :], strict=True):
        torch.testing.assert_close(rounds[-1][0].softmax(dim=0), torch.from_numpy(p), atol=1e-3, rtol=0)


def test_gradients_of_segmentation_reach_encoder_mask_encoder_and_decoder():
    network = build_network({"preset": "tiny", "decoder": {"residual": False}})
    frames, masks = torch.rand(1, 3, 3, 32, 32), torch.rand(1, 3, 2, 32, 32).round()
    outputs = propagate_masks(
        network, frames, network.encoder(frames[0]), masks, torch.ones(1, 2, dtype=torch.bool)
    )
    torch.stack([logits[:, 1].mean() for rounds in outputs for logits in rounds]).sum().backward()
    for part in (network.encoder, network.mask_encoder, network.decoder):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
        assert any(p.grad.abs().sum() > 0 for p in part.parameters())


def test_the_networks_own_masks_are_detached():
    """Where references hold them, nothing of the second query's loss flows through the first prediction."""
    network = build_network({"preset": "tiny", "decoder": {"residual": False}})
    frames = torch.rand(1, 3, 3, 32, 32)
    masks = torch.rand(1, 3, 1, 32, 32).round().requires_grad_()
    outputs = propagate_masks(
        network,
        frames,
        network.encoder(frames[0]),
        masks,
        torch.ones(1, 1, dtype=torch.bool),
        own_mask_probability=1.0,
    )
    (grad,) = torch.autograd.grad(outputs[1][-1][:, 1].sum(), masks)
    assert grad[:, 0].abs().sum() > 0
    assert grad[:, 1:].abs().sum() == 0


@pytest.mark.parametrize("memory_masks", ["final", "coarse"])
def test_drift_leaves_the_gradients_of_what_follows(memory_masks):
    """Gradients reach all of V and D under autocast, too, which keeps casts of weights made without them."""
    torch.manual_seed(0)
    network = build_network({"preset": "tiny", "decoder": {"residual": False, "evidence": True}})
    frames, masks = torch.rand(1, 5, 3, 32, 32), torch.rand(1, 5, 1, 32, 32).round()

    def gradients():
        network.zero_grad()
        features = network.encoder(frames[0])
        outputs = propagate_masks(
            network, frames, features, masks, torch.ones(1, 1, dtype=torch.bool), 1, readout=Readout(5, 4),
            memory_masks=memory_masks, drift=3,
        )  # fmt: skip
        assert len(outputs) == 1
        outputs[0][-1][:, 1].mean().backward()
        return {name: p.grad for name, p in network.named_parameters() if "encoder." not in name or "mask" in name}

    exact = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradients()
    for name, gradient in exact.items():
        assert gradient is not None, name
        assert gradient.abs().sum() > 0, name
        assert torch.cosine_similarity(rounded[name].flatten(), gradient.flatten(), dim=0) > 0.8, name


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_only_later_references_fade_and_no_more_than_so_much(own, monkeypatch):
    torch.manual_seed(0)
    network = build_network("tiny").eval()
    frames, masks = torch.rand(6, 3, 3, 32, 32), torch.ones(6, 3, 2, 32, 32)
    embedded = []
    embed = network.embed
    monkeypatch.setattr(network, "embed", lambda *parts: embedded.append(parts[2]) or embed(*parts))

    def remembered(fade):
        embedded.clear()
        with torch.no_grad():
            features = network.encoder(frames.flatten(0, 1))
            propagate_masks(
                network, frames, features, masks, torch.ones(6, 2).bool(), 1, own_mask_probability=own, fade=fade
            )
        return embedded[:2]  # of the first frame and of the first query

    first, whole = remembered(0.0)
    same, faded = remembered(0.6)
    assert torch.equal(first, same)
    left = faded / whole
    assert (left <= 1 + 1e-6).all()
    assert left.amin() >= 0.4 - 1e-6
    assert left.amin(dim=(1, 2, 3)).min() < 0.9
    assert (left.amin(dim=(1, 2, 3)) > 1 - 1e-6).any()  # clips that do not fade
