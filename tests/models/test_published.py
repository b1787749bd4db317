"""Files in the layouts that researchers have, made here, into our trunks."""

import argparse
import logging
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet18, resnet34, resnet50

from vos_umec.errors import CheckpointError, ConfigError
from vos_umec.models.encoder import Encoder, TrunkEncoder
from vos_umec.models.factory import build_network
from vos_umec.models.published import load_published


def trained(make):
    """A torchvision network whose norms have seen something, without its classifier's tensors."""
    torch.manual_seed(0)
    net = make().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return net, {name: x for name, x in net.state_dict().items() if not name.startswith("fc.")}


def under(prefix, tensors):
    return {prefix + name: x for name, x in tensors.items()}


def crw(tensors):
    padded = {re.sub(r"(conv[12])\.weight$", r"\1.1.weight", name): x for name, x in tensors.items()}
    head = {"selfsim_fc.0.weight": torch.zeros(128, 512), "selfsim_fc.0.bias": torch.zeros(128)}
    return {
        "model": {**under("encoder.model.", padded), **head},
        "epoch": 25,
        "args": argparse.Namespace(temp=0.05),
    }


def vfs(tensors):
    def name(key):
        key = re.sub(r"\bbn(\d)\.", r"conv\1.bn.", re.sub(r"\bconv(\d)\.", r"conv\1.conv.", key))
        return key.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")

    head = {"img_head.projection_convs.0.conv.weight": torch.zeros(4, 4, 1, 1)}
    return {
        "meta": {"epoch": 100},
        "state_dict": {**{f"backbone.{name(k)}": x for k, x in tensors.items()}, **head},
    }


def dul(tensors):
    head = {"module.emb_q.conv1.weight": torch.zeros(512, 512, 1, 1), "module.emb_q.bn1.weight": torch.zeros(512)}
    return {"model": {**under("module.backbone.", tensors), **head}, "score": np.float64(0.69), "epoch": 120}


def moco(tensors):
    other = {name: torch.zeros_like(x) for name, x in tensors.items()}
    head = {"module.encoder_q.fc.0.weight": torch.zeros(4, 4), "module.queue": torch.zeros(128, 8)}
    both = {**under("module.encoder_q.", tensors), **under("module.encoder_k.", other)}
    return {"arch": "resnet50", "state_dict": {**both, **head}, "optimizer": {"state": {}}}


def dino(tensors):
    other = {name: torch.zeros_like(x) for name, x in tensors.items()}
    head = {"head.mlp.0.weight": torch.zeros(4, 4)}
    return {
        "student": under("module.backbone.", other),
        "teacher": {**under("backbone.", tensors), **head},
        "args": argparse.Namespace(arch="resnet50"),
    }


def uvc(tensors):
    color = {
        "module.rgb_encoder.conv1.weight": torch.zeros(3, 3, 1, 1),
        "module.decoder.conv7.bias": torch.zeros(4),
    }
    return {"epoch": 1, "best_loss": 0.1, "state_dict": {**under("module.gray_encoder.", tensors), **color}}


LAYOUTS = {
    "crw": (crw, "encoder.model.", "selfsim_fc.0.weight"),
    "vfs": (vfs, "backbone.", "img_head.projection_convs.0.conv.weight"),
    "dul": (dul, "module.backbone.", "module.emb_q.conv1.weight"),
    "moco": (moco, "module.encoder_q.", "module.queue"),
    "dino": (dino, "backbone.", "head.mlp.0.weight"),
    "uvc": (uvc, "module.gray_encoder.", "module.rgb_encoder.conv1.weight"),
    "bare": (lambda tensors: {**tensors, "fc.weight": torch.zeros(2, 2)}, "", "fc.weight"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_features_of_its_network(layout, tmp_path, caplog):
    make, prefix, head = LAYOUTS[layout]
    net, tensors = trained(resnet18)
    torch.save(make(tensors), tmp_path / "a.pth")
    encoder = TrunkEncoder().eval()
    with caplog.at_level(logging.INFO, "vos_umec"):
        load_published(encoder.net, tmp_path / "a.pth")
    loaded, unused = caplog.messages[-1].split("unused: ")
    assert f"{len(encoder.net.state_dict())} tensors under '{prefix}'" in loaded
    assert head.split(".")[0] in unused
    assert f"{prefix}layer4 (30)" in unused  # behind the cut
    assert "left as they were" not in caplog.text

    for part in (net.layer3[0].conv1, net.layer3[0].downsample[0]):
        part.stride = (1, 1)
    x = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        stem = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        expected = F.normalize(net.layer3(net.layer2(net.layer1(stem))), dim=1)
        torch.testing.assert_close(encoder(x).key, expected, atol=1e-5, rtol=1e-4)


def test_bottlenecks_and_an_encoder_with_a_head(tmp_path):
    _, tensors = trained(resnet50)
    torch.save(moco(tensors), tmp_path / "a.pth")
    encoder = build_network("resnet50").encoder
    before = {name: x.clone() for name, x in encoder.state_dict().items() if not name.startswith("net.")}
    encoder.load_weights(tmp_path / "a.pth")
    assert torch.equal(encoder.net.stages[2][5].conv3.weight, tensors["layer3.5.conv3.weight"])
    assert all(torch.equal(encoder.state_dict()[name], x) for name, x in before.items())  # the head is not in it


def test_old_files_without_counters_load_and_say_so(tmp_path, caplog):
    _, tensors = trained(resnet18)
    torch.save({n: x for n, x in tensors.items() if "num_batches" not in n}, tmp_path / "a.pth")
    with caplog.at_level(logging.INFO, "vos_umec"):
        load_published(TrunkEncoder().net, tmp_path / "a.pth")
    missing = caplog.messages[-1].split("left as they were: ")[1].split(", ")
    assert all(name.endswith("num_batches_tracked") for name in missing)


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    _, tensors = trained(resnet18)
    save_file({n: x.contiguous() for n, x in tensors.items()}, tmp_path / "a.safetensors")
    trunk = TrunkEncoder().net
    load_published(trunk, tmp_path / "a.safetensors")
    assert torch.equal(trunk.stages[2][1].conv2.weight, tensors["layer3.1.conv2.weight"])


R50 = {"blocks": (3, 4, 6), "strides": (1, 2, 1), "bottleneck": True}


@pytest.mark.parametrize(
    ("file", "encoder", "words"),
    [
        (resnet34, {}, r"84 tensors too many .*stages\.0\.2\.conv1\.weight"),
        (
            resnet18,
            {"blocks": (3, 4, 6), "strides": (1, 2, 1)},
            r"70 tensors missing .*stages\.0\.2\.conv1\.weight",
        ),
        (resnet50, {}, r"stages\.0\.0\.conv1\.weight is \[64, 64, 1, 1\]"),
        (resnet18, R50, r"stages\.0\.0\.conv1\.weight is \[64, 64, 3, 3\]"),
    ],
)
def test_a_file_of_the_wrong_depth_is_one_clear_line_and_loads_nothing(file, encoder, words, tmp_path):
    torch.save(trained(file)[1], tmp_path / "a.pth")
    E = TrunkEncoder(**encoder)
    before = {name: x.clone() for name, x in E.state_dict().items()}
    with pytest.raises(CheckpointError, match=words) as error:
        E.load_weights(tmp_path / "a.pth")
    assert "\n" not in str(error.value)
    assert all(torch.equal(x, before[name]) for name, x in E.state_dict().items())


class Evil:
    def __reduce__(self):
        return (print, ("code of the file ran",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": {"a.weight": torch.zeros(2)}}, r"a\.pth .*conv1\.weight"),
        ({"epoch": 3}, r"a\.pth .*epoch"),
        ([1, 2], r"a\.pth .*list"),
        ({"state_dict": {"conv1.weight": torch.zeros(2)}, "x": Evil()}, "Weights only load failed"),
        (None, r"no weights .*a\.pth"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(content, words, tmp_path, capsys):
    if content is not None:
        torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words) as error:
        TrunkEncoder().load_weights(tmp_path / "a.pth")
    assert "\n" not in str(error.value)
    assert "ran" not in capsys.readouterr().out


def test_an_encoder_without_a_resnet_is_told_where_to_go(tmp_path):
    class Other(Encoder):
        def forward(self, x):
            raise NotImplementedError

    with pytest.raises(ConfigError, match=r"Other .*a\.pth.*TimmEncoder"):
        Other().load_weights(tmp_path / "a.pth")
