"""Files in the layouts that researchers have, made here, into our trunks."""

import argparse
import logging
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18, resnet34, resnet50

from vos_umec.errors import CheckpointError, ConfigError
from vos_umec.inference.fusion import fuse_for_inference
from vos_umec.models.encoder import Encoder, MASTEncoder, TrunkEncoder
from vos_umec.models.factory import build_network
from vos_umec.models.published import load_published
from vos_umec.models.umec import PropagationNetwork


def trained(make):
    """A network whose norms have seen something, and its tensors without those of a classifier."""
    torch.manual_seed(0)
    net = make().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
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
    head = {"emb_q.conv1.weight": torch.zeros(512, 512, 1, 1), "emb_q.bn1.weight": torch.zeros(512)}
    both = {**under("backbone.", tensors), **head}
    return {"model": under("module.fast_net.", both), "score": np.float64(0.69), "epoch": 120}


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
    "dul": (dul, "module.fast_net.backbone.", "module.fast_net.emb_q.conv1.weight"),
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
        load_published(encoder, tmp_path / "a.pth")
    loaded, unused = next(message for message in caplog.messages if "unused" in message).split("unused: ")
    assert f"{len(encoder.net.state_dict())} tensors under '{prefix}'" in loaded
    assert head.split(".")[0] in unused
    assert f"{prefix}layer4 (30): behind the last stage that is read" in unused
    assert ("give the encoder padding: reflect" in caplog.text) == (layout == "crw")
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
        load_published(TrunkEncoder(), tmp_path / "a.pth")
    missing = caplog.messages[-1].split("left as they were: ")[1].split(", ")
    assert all(name.endswith("num_batches_tracked") for name in missing)


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    _, tensors = trained(resnet18)
    save_file({n: x.contiguous() for n, x in tensors.items()}, tmp_path / "a.safetensors")
    encoder = TrunkEncoder()
    load_published(encoder, tmp_path / "a.safetensors")
    assert torch.equal(encoder.net.stages[2][1].conv2.weight, tensors["layer3.1.conv2.weight"])


def report(caplog):
    """What the log says of a file: {part: (number of tensors, reason)}, and how many were loaded."""
    message = next(each for each in caplog.messages if "unused" in each)
    loaded = re.search(r"(\d+) tensors under '\S*' and (\d+) of a head loaded", message)
    parts = re.findall(r"(\S+) \((\d+)\): ([^;]+)", message.split("unused: ")[1])
    return {part: (int(number), reason) for part, number, reason in parts}, int(loaded[1]) + int(loaded[2])


class MASTBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.left = nn.Sequential(first, nn.BatchNorm2d(outputs), nn.ReLU(), second, nn.BatchNorm2d(outputs))
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x):
        return F.relu(self.left(x) + self.shortcut(x))


class MASTNetwork(nn.Module):
    """MAST's names and shapes: feature_extraction and post_convolution."""

    def __init__(self):
        super().__init__()
        stages = {}
        stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        stages["conv1"] = nn.Sequential(stem, nn.BatchNorm2d(64), nn.ReLU())
        for n, (inputs, outputs, stride) in enumerate([(64, 64, 1), (64, 128, 2), (128, 256, 1), (256, 256, 1)], 1):
            stages[f"layer{n}"] = nn.Sequential(MASTBlock(inputs, outputs, stride), MASTBlock(outputs, outputs, 1))
        self.feature_extraction = nn.ModuleDict(stages)
        self.post_convolution = nn.Conv2d(256, 64, 3, 1, 1)

    def forward(self, x):
        for stage in self.feature_extraction.values():
            x = stage(x)
        return self.post_convolution(x)


def test_a_file_of_mast_gives_its_features(tmp_path, caplog):
    net, tensors = trained(MASTNetwork)
    torch.save({"epoch": 19, "state_dict": tensors, "optimizer": {"state": {}}}, tmp_path / "a.pt")
    E = MASTEncoder().eval()
    with caplog.at_level(logging.INFO, "vos_umec"):
        E.load_weights(tmp_path / "a.pt")
    assert report(caplog) == ({}, len(tensors))
    assert "left as they were" not in caplog.text
    with pytest.raises(CheckpointError, match=r"a\.pt is of MAST.* MASTEncoder"):
        TrunkEncoder().load_weights(tmp_path / "a.pt")
    seen = []
    E.net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        key = E(torch.randn(1, 3, 32, 40)).key
        torch.testing.assert_close(key, F.normalize(net(seen[0]), dim=1), atol=1e-5, rtol=1e-4)  # of frames in Lab
    assert (E.stride, E.key_dim, key.shape[-2:]) == (4, 64, (8, 10))


def conv_norm(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class ReleasedHead(nn.Sequential):
    def __init__(self, outputs):
        super().__init__()
        for name, layer in zip(("conv1", "bn1", "relu"), conv_norm(512, 512), strict=True):
            self.add_module(name, layer)
        self.add_module("conv2", nn.Conv2d(512, outputs, 1))


class ReleasedBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3), nn.Conv2d(outputs, outputs, 3)
        if inputs != outputs:
            self.downsample = nn.Conv2d(inputs, outputs, 3)


def released(resnet):
    """Names and shapes of the code that UMEC's authors released, for its mask stage, with either ResNet."""
    deep = resnet is resnet50
    net, backbone, masks = nn.Module(), resnet(), resnet()
    for trunk in (backbone, masks):
        del trunk.fc
        if deep or trunk is masks:
            del trunk.layer4
    masks.conv1 = nn.Conv2d(4, 64, 7)
    net.fast_net = nn.Module()
    net.fast_net.backbone = backbone
    net.fast_net.emb_q, net.fast_net.emb_v = ReleasedHead(128), ReleasedHead(512)
    for i, width in ((3, 512), (2, 256)):
        adapter = nn.Module()
        adapter.block = conv_norm(width, width)
        setattr(net.fast_net, f"down_dim{i}", adapter)
    if deep:
        backbone.down_dim4 = nn.Module()
        backbone.down_dim4.block = conv_norm(1024, 512)
        masks.down_dim = nn.Conv2d(1024, 512, 1)
    net.mask_encoder = nn.Module()
    net.mask_encoder.backbone, net.mask_encoder.fuser = masks, nn.Module()
    fuser, decoder = net.mask_encoder.fuser, nn.Module()
    fuser.block1, fuser.block2 = ReleasedBlock(1024 if deep else 768, 512), ReleasedBlock(512, 512)
    fuser.attention = nn.Module()
    fuser.attention.ChannelGate = nn.Linear(512, 32)
    decoder.compress, decoder.pred = ReleasedBlock(1024, 512), nn.Conv2d(128, 1, 3)
    net.decoder = decoder
    return net


@pytest.mark.parametrize("resnet", [resnet18, resnet50])
@pytest.mark.parametrize("wrapped", ["", "module."])
def test_a_file_of_umecs_authors_gives_the_keys_of_its_encoder(resnet, wrapped, tmp_path, caplog):
    net, tensors = trained(lambda: released(resnet))
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias)  # where ours has a norm and no bias
    torch.save(
        {"model": under(wrapped, tensors), "opt": {}, "score": np.float64(0.7), "epoch": 9}, tmp_path / "a.pth"
    )
    E = build_network("resnet18" if resnet is resnet18 else "resnet50").encoder.eval()
    with caplog.at_level(logging.INFO, "vos_umec"):
        E.load_weights(tmp_path / "a.pth")
    unused, loaded = report(caplog)
    of_masks = "not of an encoder, and of another form than V and D here"
    expected = {
        "fast_net.emb_v": "its own code never uses it",
        "fast_net.down_dim3": "convs on skips, which D here has in another form",
        "fast_net.down_dim2": "convs on skips, which D here has in another form",
        "mask_encoder": of_masks,
        "decoder": of_masks,
    }
    assert {part: reason for part, (_, reason) in unused.items()} == {wrapped + k: v for k, v in expected.items()}
    assert loaded + sum(number for number, _ in unused.values()) == len(tensors)
    assert "left as they were" not in caplog.text

    trunk = net.fast_net.backbone
    for stage in (trunk.layer3, *([] if resnet is resnet50 else [trunk.layer4])):
        for conv in (m for m in stage.modules() if isinstance(m, nn.Conv2d)):
            conv.stride = (1, 1)
    x = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        features = trunk.layer2(trunk.layer1(trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(x))))))
        features = trunk.layer3(features)
        features = trunk.down_dim4.block(features) if resnet is resnet50 else trunk.layer4(features)
        expected = F.normalize(net.fast_net.emb_q(features), dim=1)
        found = E(x)
    torch.testing.assert_close(found.trunk, features, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.key, expected, atol=1e-5, rtol=1e-3)


def test_a_head_of_another_width_is_left_out_and_said_to_be(tmp_path, caplog):
    torch.save({"model": trained(lambda: released(resnet18))[1]}, tmp_path / "a.pth")
    E = build_network({"preset": "resnet18", "encoder": {"key_dim": 64}}).encoder
    before = E.head[0].weight.clone()
    with caplog.at_level(logging.INFO, "vos_umec"):
        E.load_weights(tmp_path / "a.pth")
    assert report(caplog)[0]["fast_net.emb_q"] == (9, "this encoder makes its keys in another way")
    assert "left as they were: head.0.weight" in caplog.text
    assert torch.equal(E.head[0].weight, before)


def test_padding_by_reflection_is_crws(tmp_path):
    net, tensors = trained(resnet18)
    torch.save(crw(tensors), tmp_path / "a.pth")
    E = TrunkEncoder(padding="reflect").eval()
    E.load_weights(tmp_path / "a.pth")
    for conv in (m for m in net.modules() if isinstance(m, nn.Conv2d) and sum(m.padding)):
        conv.padding_mode = "reflect"
    for part in (net.layer3[0].conv1, net.layer3[0].downsample[0]):
        part.stride = (1, 1)
    x = torch.rand(1, 3, 45, 61)  # no whole cells: as CRW takes frames
    with torch.no_grad():
        stem = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        expected = F.normalize(net.layer3(net.layer2(net.layer1(stem))), dim=1)
        found = fuse_for_inference(PropagationNetwork(E), bf16=False).encoder(x).key
    assert found.shape[-2:] == (6, 8)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


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
