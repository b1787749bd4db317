import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18, resnet50

from vos_umec.errors import ConfigError
from vos_umec.models.encoder import ResNetEncoder
from vos_umec.models.factory import build_network
from vos_umec.models.resnet import ResNetTrunk
from vos_umec.transforms.color import from_lab


@pytest.mark.parametrize(("preset", "stride", "D", "C"), [("resnet18", 8, 128, 512), ("resnet50", 8, 128, 512)])
def test_the_papers_encoders_have_stride_8_and_its_widths(preset, stride, D, C):
    network = build_network(preset).eval()
    with torch.no_grad():
        features = network.encoder(torch.rand(1, 3, 64, 96))
    assert network.stride == stride
    assert features.key.shape == (1, D, 8, 12)
    assert features.trunk.shape == (1, C, 8, 12)
    assert [tuple(skip.shape[-2:]) for skip in features.skips] == [(8, 12), (16, 24)]


@pytest.mark.parametrize(
    ("make", "blocks", "bottleneck"), [(resnet18, (2, 2, 2, 2), False), (resnet50, (3, 4, 6), True)]
)
def test_a_trunk_computes_what_torchvisions_network_does(make, blocks, bottleneck):
    torch.manual_seed(0)
    theirs, ours = make().eval(), ResNetTrunk(blocks, (1, 2, 2, 2)[: len(blocks)], bottleneck).eval()
    layers = [theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4][: len(blocks)]
    stem = nn.Sequential(theirs.conv1, theirs.bn1, theirs.relu, theirs.maxpool)
    ours.stem.load_state_dict(stem.state_dict())
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = stem(x)
        for layer, stage in zip(layers, ours.stages, strict=True):
            stage.load_state_dict(layer.state_dict())
        for layer, got in zip(layers, ours(x), strict=True):
            expected = layer(expected)
            torch.testing.assert_close(got, expected)


def test_a_trunk_starts_from_torchvisions_distribution():
    torch.manual_seed(0)
    theirs, ours = resnet18(), ResNetTrunk((2, 2, 2, 2), (1, 2, 2, 2))
    for mine, layer in zip(ours.stages, (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True):
        for (name, weight), other in zip(mine.named_parameters(), layer.parameters(), strict=True):
            assert weight.std().item() == pytest.approx(other.std().item(), rel=0.1), name


@pytest.mark.parametrize("size", [(64, 96), (40, 52)])  # whose halves and quarters are whole cells, and are not
def test_keys_of_a_pyramid_are_those_of_each_level_joined(size):
    torch.manual_seed(0)
    weights = (1.0, 0.5, 0.25)
    one = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16).eval()
    three = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16, pyramid_weights=weights).eval()
    three.load_state_dict(one.state_dict())  # levels have no weights of their own
    frame = torch.rand(2, 3, *size)
    with torch.no_grad():
        first, found = one(frame), three(frame)
        levels, seen = [first.key], frame
        for _ in range(2):
            H, W = (max(round(n / 8), 1) * 4 for n in seen.shape[-2:])  # half the size, in cells of 4 pixels
            seen = F.interpolate(seen, size=(H, W), mode="bilinear")
            levels.append(F.interpolate(one(seen).key, size=first.key.shape[-2:], mode="bilinear"))
    assert three.key_dim == found.key.shape[1] == 48
    torch.testing.assert_close(found.trunk, first.trunk)
    weighted = [weight**0.5 * level for weight, level in zip(weights, levels, strict=True)]
    norm = torch.stack([(level**2).sum(dim=1) for level in weighted]).sum(dim=0).sqrt()  # (B, h, w)
    for level, got in zip(weighted, found.key.split(16, dim=1), strict=True):
        torch.testing.assert_close(got * norm[:, None], level, atol=1e-5, rtol=1e-4)


def test_without_batch_norms_rows_do_not_see_each_other_and_biases_do_what_norms_at_rest_do():
    torch.manual_seed(0)
    free, normed = (ResNetTrunk((1, 2), (1, 2), batch_norm=normed).eval() for normed in (False, True))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in free.modules())
    x = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(free.train()(x)[1][:1], free(x[:1])[1])
    convs = [[part for part in trunk.modules() if isinstance(part, nn.Conv2d)] for trunk in (free, normed)]
    norms = [part for part in normed.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == len(convs[0]) == len(convs[1])
    with torch.no_grad():
        for ours, theirs, norm in zip(*convs, norms, strict=True):  # a norm follows its conv
            ours.bias.normal_()
            theirs.weight.copy_(ours.weight)
            norm.bias.copy_(ours.bias)
    torch.testing.assert_close(normed(x)[1], free(x)[1], rtol=1e-3, atol=1e-3)


def test_altered_strides_keep_what_a_stride_1_network_computes():
    """A strided first block sees the same weights: its output is the dense one, sub-sampled."""
    torch.manual_seed(1)
    dense = ResNetTrunk((1, 1), (1, 1)).eval()
    strided = ResNetTrunk((1, 1), (1, 2)).eval()
    strided.load_state_dict(dense.state_dict())
    x = torch.rand(1, 3, 32, 32)
    block = dense.stages[1][0]
    with torch.no_grad():
        inner = torch.relu(block.bn1(block.conv1(dense(x)[0])))[..., ::2, ::2]
        own = torch.relu(strided.stages[1][0].bn1(strided.stages[1][0].conv1(strided(x)[0])))
    torch.testing.assert_close(own, inner)


def test_objects_do_not_see_each_other_in_embeddings():
    network = build_network("tiny").eval()
    frame, masks = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        features = network.encoder(frame)
        together = network.embed(frame, features, masks)
        alone = network.embed(frame, features, masks[:, 1:2])
    torch.testing.assert_close(together[:, 1:2], alone, atol=1e-5, rtol=1e-4)


def test_round_0_is_the_coarse_mask_and_a_fresh_residual_decoder_keeps_it():
    network = build_network("tiny").eval()
    frame, coarse = torch.rand(1, 3, 32, 32), torch.zeros(1, 2, 8, 8)
    coarse[0, 0, :4], coarse[0, 1, 4:, 4:] = 1, 1
    with torch.no_grad():
        features = network.encoder(frame)
        values = network.embed(frame, features, torch.zeros(1, 2, 32, 32))
        rounds = network.decode(frame, features, values, coarse, rounds=3)
    assert len(rounds) == 4
    for logits in rounds:
        label = logits.argmax(dim=1)[0, 2::4, 2::4]  # (8, 8), at the cells' centres
        expected = coarse[0, 0] + 2 * coarse[0, 1]
        assert torch.equal(label, expected.long())


@pytest.mark.parametrize("mask_dim", [48, 24])  # with 24, the decoder's first shortcut has no conv
def test_what_is_computed_once_changes_nothing(mask_dim):
    """Equations 3, 5 and 6 written out, every conv over all of its input, against the network's shared parts."""
    torch.manual_seed(0)
    network = build_network(
        {"preset": "tiny", "mask_encoder": {"mask_dim": mask_dim}, "decoder": {"residual": False}}
    ).eval()
    V, D = network.mask_encoder, network.decoder
    frame, coarse, V_q = torch.rand(1, 3, 32, 48), torch.rand(1, 1, 8, 12), torch.rand(1, 1, mask_dim, 8, 12)

    def embed(mask):
        return V.fuse(V.join(torch.cat([V.net(torch.cat([frame, mask], dim=1))[-1], features.trunk], dim=1)))

    with torch.no_grad():
        features = network.encoder(frame)
        mask = F.interpolate(coarse, size=(32, 48), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network.embed(frame, features, mask)[:, 0], embed(mask), atol=1e-4, rtol=1e-4)
        for _ in range(2):
            x = D.join(torch.cat([V_q[:, 0], embed(mask)], dim=1))
            for conv, block, skip in zip(D.skips, D.blocks, features.skips, strict=True):
                x = block(F.interpolate(x, size=skip.shape[-2:], mode="bilinear") + conv(skip))
            p = F.interpolate(D.out(F.relu(x)), size=(32, 48), mode="bilinear").sigmoid()
            mask = p**2 / (p**2 + (1 - p) ** 2)  # soft aggregation of one object with its background
        found = network.decode(frame, features, V_q, coarse, rounds=2)[-1].softmax(dim=1)[:, 1:]
    torch.testing.assert_close(found, mask, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"preset": "resnet19"}, "unknown network 'resnet19'"),
        ({"preset": "tiny", "encodr": {}}, "encodr"),
        ({"preset": "tiny", "encoder": {"key_dims": 3}}, "key_dims"),
        ({"preset": "tiny", "encoder": {"strides": (1, 2)}}, "stride"),
        ({"preset": "tiny", "encoder": {"pyramid_weights": ()}}, "pyramid_weights"),
        ({"preset": "tiny", "encoder": {"pyramid_weights": (1.0, 0.0)}}, "pyramid_weights"),
        ({"preset": "tiny", "decoder": {"dims": (8, 8)}}, "one width more"),
    ],
)
def test_wrong_settings_say_what_is_wrong(arguments, words):
    with pytest.raises(ConfigError, match=words):
        build_network(arguments)


def test_an_encoder_in_grey_does_not_see_colors():
    torch.manual_seed(0)
    grey, lab = (ResNetEncoder((1, 1), (1, 1), key_dim=8, color=color).eval() for color in ("grey", "lab"))
    light = torch.rand(1, 1, 16, 16) * 1.6 - 0.8
    channels = [[light, torch.full_like(light, a), torch.full_like(light, b)] for a, b in [(0.2, 0), (0, -0.2)]]
    red, blue = (torch.cat(each, dim=1) for each in channels)
    with torch.no_grad():
        torch.testing.assert_close(grey(from_lab(red)).key, grey(from_lab(blue)).key, atol=1e-4, rtol=0)
        assert (lab(from_lab(red)).key - lab(from_lab(blue)).key).abs().max() > 0.01
    with pytest.raises(ConfigError, match="found color 'pink'"):
        ResNetEncoder((1, 1), (1, 1), color="pink")
