"""Backbones of timm as E. Random weights; the names are those of the paper's rivals."""

import importlib
import logging

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

from vos_umec.errors import CheckpointError, ConfigError, MissingDependencyError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.decoder import Decoder
from vos_umec.models.mask_encoder import MaskEncoder
from vos_umec.models.timm_encoder import TimmEncoder
from vos_umec.models.umec import UMEC, PropagationNetwork

SMALL = "vit_tiny_patch16_224"
NAMES = {
    "vit_small_patch16_224": (None, 16),
    "vit_base_patch8_224.dino": (None, 8),
    "vit_small_patch14_dinov2": (None, 14),
    "vit_small_patch14_reg4_dinov2": (7, 7),
    "vit_small_patch16_dinov3": (8, 8),
    "convnext_atto": (8, 8),
    "swin_tiny_patch4_window7_224": (None, 32),
    "resnet18": (8, 8),
}


@pytest.mark.parametrize("name", NAMES)
def test_backbones_build_and_carry_a_mask_over_frames_of_no_whole_cells(name):
    asked, stride = NAMES[name]
    torch.manual_seed(0)
    encoder = TimmEncoder(name, stride=asked)
    assert encoder.stride == stride
    segmenter = VideoSegmenter(PropagationNetwork(encoder), rounds=0, readout={"top_k": 1})
    frame = np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)
    mask = np.zeros((75, 101), np.uint8)
    mask[: 2 * stride, : 3 * stride] = 3
    segmenter.step(frame, mask)
    assert segmenter.memory.keys.shape[1:] == (-(-75 // stride), -(-101 // stride), encoder.key_dim)
    assert segmenter.step(frame).shape == (75, 101)
    first, second = segmenter.memory.masks
    assert first.sum() == 6
    assert torch.equal(first, second)  # the same frame: each cell finds itself
    assert [one.shape[1] for one in encoder.eval()(torch.rand(1, 3, 2 * stride, 2 * stride)).skips] == list(
        encoder.skip_dims
    )


@pytest.mark.parametrize("layer", [-1, 4])
def test_keys_are_a_blocks_tokens_of_the_plain_network(layer):
    torch.manual_seed(0)
    net = timm.create_model(SMALL, num_classes=0).eval()
    E = TimmEncoder(SMALL, layer=layer).eval()
    E.net.net.load_state_dict(net.state_dict(), strict=layer == -1)
    x = torch.rand(1, 3, 224, 224)  # the size that it was made for: nothing is resized
    with torch.no_grad():
        tokens = net.get_intermediate_layers((x * E.scale + E.shift), n=[layer % 12], norm=True)[0]
        expected = F.normalize(tokens, dim=-1).transpose(1, 2).unflatten(2, (14, 14))
        torch.testing.assert_close(E(x).key, expected, atol=1e-4, rtol=1e-3)


def test_frames_are_brought_to_the_backbones_own_mean_and_deviation():
    E = TimmEncoder(SMALL)
    assert timm.get_pretrained_cfg(SMALL).mean == (0.5, 0.5, 0.5)
    grey = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(grey.view(3, 1, 1) * E.scale + E.shift, torch.zeros(3, 1, 1), atol=1e-6, rtol=0)


def test_dinos_own_are_prepared_as_its_evaluation_does():
    """Position embeddings of another size are a little off the plain bicubic ones; red has its own deviation."""
    scales = [
        TimmEncoder(name).scale.flatten() for name in ("vit_small_patch16_224.dino", "vit_small_patch14_dinov2")
    ]
    torch.testing.assert_close(torch.stack(scales), torch.tensor([[0.229 / 0.228, 1, 1], [1, 1, 1]]))
    E = TimmEncoder("test_vit", as_dino=True).eval()
    net = E.net.net
    with torch.no_grad():
        net.cls_token.zero_()
        same = net._pos_embed(torch.zeros(1, 10, 10, 64))
        larger = net._pos_embed(torch.zeros(2, 12, 17, 64))
    torch.testing.assert_close(same, net.pos_embed)  # the size that it was made for
    assert larger.shape == (2, 1 + 12 * 17, 64)
    grid = net.pos_embed[:, 1:].unflatten(1, (10, 10)).permute(0, 3, 1, 2)
    plain = F.interpolate(grid, size=(12, 17), mode="bicubic").flatten(2).mT
    assert 0 < (larger[:1, 1:] - plain).abs().max() < 0.05


def test_overlapping_patches_are_centred_on_their_cells():
    """At half the stride, a patch embedding that averages gives what an average around each cell's centre is."""
    E = TimmEncoder(SMALL, stride=8, layer=0).eval()
    embed = E.net.net.patch_embed
    torch.nn.init.constant_(embed.proj.weight, 1 / (3 * 16 * 16))
    torch.nn.init.zeros_(embed.proj.bias)
    ramp = torch.arange(80.0).expand(1, 3, 48, 80)
    seen = []
    embed.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        E.net(ramp)
    centres = 8 * torch.arange(10) + 3.5  # of cells, in pixels
    torch.testing.assert_close(seen[0][0, 2, 1:-1, 0], centres[1:-1], atol=1e-3, rtol=0)


def test_it_joins_the_whole_model_and_learns():
    E = TimmEncoder("test_vit", key_dim=8)
    V = MaskEncoder(blocks=(1, 1, 1), strides=(1, 2, 2), trunk_dim=E.trunk_dim, mask_dim=8)
    network = UMEC(E, V, Decoder(8, E.skip_dims, dims=(8,) * (1 + len(E.skip_dims))))
    frame, masks = torch.rand(1, 3, 48, 64), torch.rand(1, 2, 48, 64)
    features = network.encoder(frame)
    values = network.embed(frame, features, masks)
    loss = network.decode(frame, features, values, network.to_grid(masks), rounds=1)[-1].mean()
    (loss + features.key.square().mean() + features.key[:, 0].mean()).backward()
    assert features.key.shape == (1, 8, 3, 4)
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", [SMALL, "convnext_atto", "resnet18", "vit_small_patch16_dinov3"])
def test_weights_of_a_file_fill_all_of_it_and_are_named(name, tmp_path, caplog):
    torch.manual_seed(1)
    net = timm.create_model(name, num_classes=5)
    torch.save({"model": {f"module.{key}": x for key, x in net.state_dict().items()}}, tmp_path / "a.pth")
    with caplog.at_level(logging.INFO, "vos_umec"):
        E = TimmEncoder(name)
        E.load_weights(tmp_path / "a.pth")
    assert "unused there" in caplog.text  # the classifier
    values = {x.double().sum().item() for x in net.state_dict().values()}
    assert all(x.double().sum().item() in values for x in E.net.state_dict().values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "vit_small_patch16_240"}, "'vit_small_patch16_240'.* vit_small_patch16_224"),
        ({"name": "mixer_s32_224"}, "'mixer_s32_224'"),
        ({"name": "levit_128"}, "'levit_128'"),
        ({"name": "vit_base_patch16_224.nonsense"}, "nonsense"),
        ({"name": SMALL, "stride": 20}, "takes a stride of 1 to 16; found 20"),
        ({"name": "swin_tiny_patch4_window7_224", "stride": 8}, "takes no output stride"),
        ({"name": "resnet18", "stride": 5}, "cannot be built with .*'output_stride': 5"),
        ({"name": SMALL, "layer": 12}, "has 12 blocks, 0 to 11; found layer 12"),
        ({"name": "resnet18", "layer": -7}, "has 5 stages"),
        ({"name": "resnet18", "as_dino": True}, "as_dino is for DINO's ViTs, and timm's 'resnet18' is none"),
        (
            {"name": "vit_small_patch14_reg4_dinov2", "as_dino": True},
            "as_dino is for DINO's ViTs, with a class token",
        ),
    ],
)
def test_what_cannot_be_an_encoder_is_one_clear_line(arguments, words):
    with pytest.raises(ConfigError, match=words) as error:
        TimmEncoder(**arguments)
    assert "\n" not in str(error.value)


def test_weights_of_another_backbone_are_one_clear_line(tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="is not of this backbone") as error:
        TimmEncoder(SMALL).load_weights(tmp_path / "a.pth")
    assert "\n" not in str(error.value)


def test_without_timm_the_line_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def absent(name, *rest):
        if name == "timm":
            raise ImportError("No module named 'timm'")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingDependencyError, match=r"vos-umec\[timm\]"):
        TimmEncoder(SMALL)
