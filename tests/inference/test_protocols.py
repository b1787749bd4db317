"""Protocols by name, and what they give beside the published codes' rules, written out densely."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from original_protocols import bilinear, clip, dino_keys, segment_as_umec_code, segment_by_votes

from vos_umec.errors import ConfigError
from vos_umec.inference.load import load_segmenter
from vos_umec.inference.protocols import PROTOCOLS, change_settings
from vos_umec.inference.resizing import Resizing
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.matching.readout import Readout
from vos_umec.models.encoder import TrunkEncoder
from vos_umec.models.factory import build_network
from vos_umec.models.timm_encoder import TimmEncoder
from vos_umec.models.umec import PropagationNetwork
from vos_umec.transforms.augment import normalize

SIZE, FRAMES, LATE = (44, 61), 6, 2  # no whole cells; object 9 appears on frame 2
PADDED = (48, 64)


def video():
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (FRAMES, *SIZE, 3), dtype=np.uint8)
    masks = {0: np.zeros(SIZE, np.uint8), LATE: np.zeros(SIZE, np.uint8)}
    masks[0][8:30, 10:40] = 4
    masks[LATE][30:, 40:] = 9
    return frames, masks


def reference(network, frames, masks, references, radius, permanent_radius, top_k, tau, repeat_first):
    """Soft masks of every frame, cell by cell, each reference frame written down as often as it counts."""
    s = network.stride
    height, width = (side // s for side in PADDED)
    cells = [(y, x) for y in range(height) for x in range(width)]

    def padded(x):
        return F.pad(x, (0, PADDED[1] - SIZE[1], 0, PADDED[0] - SIZE[0]), mode="replicate")

    def grid(mask, i):
        whole = padded(torch.from_numpy(mask == i).float()[None, None])[0, 0]
        return torch.stack([whole[s * y : s * y + s, s * x : s * x + s].mean() for y, x in cells])

    with torch.no_grad():
        images = [padded(normalize(torch.from_numpy(frame).permute(2, 0, 1))[None]) for frame in frames]
        keys = [network.encoder(image).key[0].flatten(1).T for image in images]  # (h*w, D)
    far = torch.tensor([[(y - b) ** 2 + (x - a) ** 2 for b, a in cells] for y, x in cells])
    soft = {(i, t): grid(masks[t], i) for i, t in ((4, 0), (9, LATE))}
    for t in range(1, FRAMES):
        for i, start in ((4, 0), (9, LATE)):
            if t <= start:
                continue
            known = range(start, t)
            entries = [(r, permanent_radius) for r in known if r in masks]
            entries += [(r, radius) for r in known if r not in masks][-references:]
            if repeat_first:
                entries += [(start, radius)] * (1 + references - len(entries))
            scores = torch.cat(
                [
                    (keys[t] @ keys[r].T).masked_fill(far >= (torch.inf if reach is None else reach**2), -torch.inf)
                    for r, reach in entries
                ],
                dim=1,
            )
            held = torch.cat([soft[i, r] for r, _ in entries])
            best, index = scores.topk(top_k, dim=1)
            soft[i, t] = (torch.softmax(best / tau, dim=1) * held[index]).sum(dim=1)
        if t == LATE:  # the prompt leaves no room
            soft[4, t] = soft[4, t] * (1 - soft[9, t])
        if t > LATE:  # each object has an affinity of its own, and what both leave is the background
            first, second = soft[4, t], soft[9, t]
            whole = first + second + (1 - first) * (1 - second)
            soft[4, t], soft[9, t] = first / whole, second / whole
    return soft


@pytest.mark.parametrize("encoder", ["resnet", "vit"])
@pytest.mark.parametrize("repeat_first", [False, True])
def test_objects_that_come_later_are_read_by_themselves(encoder, repeat_first):
    torch.manual_seed(0)
    E = TrunkEncoder(blocks=(1, 1, 1)) if encoder == "resnet" else TimmEncoder("test_vit", stride=8, layer=3)
    network = PropagationNetwork(E).eval()
    frames, masks = video()
    readout = {"radius": 3.0, "permanent_radius": 4, "top_k": 5, "tau": 0.1}
    segmenter = VideoSegmenter(network, 0, 3, readout, bf16=False, repeat_first=repeat_first)
    expected = reference(network, frames, masks, 3, **readout, repeat_first=repeat_first)
    for t, frame in enumerate(frames):
        segmenter.step(frame, masks.get(t))
        places = [t == 0, t == LATE]
        row = len(segmenter.memory) - 1
        if any(places):
            row = places.index(True)
        elif len(segmenter.memory) - segmenter.memory.permanent == 3:
            row = segmenter.memory.permanent + [f for f in range(FRAMES) if f not in masks].index(t) % 3
        for k, i in enumerate(segmenter.ids):
            found = segmenter.memory.masks[row, ..., k].flatten()
            torch.testing.assert_close(found, expected[i, t], atol=1e-4, rtol=0)


@dataclass
class Original:
    """A protocol on a clip: a network, what differs from the protocol to make it small, and the original's ids."""

    protocol: str
    network: PropagationNetwork
    frames: np.ndarray
    mask: np.ndarray
    changes: dict[str, Any]
    rules: dict[str, Any]

    def __post_init__(self):
        self.ids = self.by_rules({})

    def by_rules(self, changes):
        """Ids (T, H, W) by the original's rules, but for some that are changed."""
        settings = change_settings(change_settings(PROTOCOLS[self.protocol], self.changes), changes)
        settings |= settings.pop("readout")
        kept = {name: value for name, value in settings.items() if name not in ("rounds", "bf16")}
        with torch.no_grad():
            return segment_by_votes(
                stride=self.network.stride, frames=self.frames, mask=self.mask, **self.rules, **kept
            )

    def by_us(self, changes, network=None):
        """Ids (T, H, W) by the protocol, but for some settings that are changed."""
        settings = change_settings(self.changes, changes)
        segmenter = VideoSegmenter.from_protocol(network or self.network, self.protocol, **settings)
        return np.stack([segmenter.step(frame, None if t else self.mask) for t, frame in enumerate(self.frames)])


def equal(a, b):
    """Share of equal pixels in all frames but the first."""
    return (a == b)[1:].mean()


SAME = 0.9999  # here it is every pixel; elsewhere scores that nearly tie may fall the other way


@pytest.fixture(scope="module")
def crw():
    torch.manual_seed(0)
    network = PropagationNetwork(TrunkEncoder(blocks=(1, 1, 1))).eval()
    changes = {"references": 3, "readout": {"radius": 4}}
    rules = {"keys_of": lambda image: network.encoder(image[None]).key[0]}
    return Original("crw", network, *clip((76, 125), frames=6), changes, rules)


@pytest.fixture(scope="module")
def dino():
    torch.manual_seed(0)
    encoder = TimmEncoder("test_vit", as_dino=True).eval()
    changes = {"short_side": 128, "references": 3, "readout": {"radius": 4, "permanent_radius": 4}}
    rules = {"keys_of": dino_keys(encoder.net.net), "std": (0.228, 0.224, 0.225)}
    return Original("dino", PropagationNetwork(encoder), *clip((120, 210), frames=5), changes, rules)


@pytest.mark.parametrize("name", ["crw", "dino"])
def test_a_protocol_gives_the_masks_of_its_code(name, request):
    original = request.getfixturevalue(name)
    assert set(np.unique(original.ids[-1])) >= {0, 1, 2}
    assert (original.ids[-1] != original.ids[0]).mean() > 0.01
    assert equal(original.by_us({}), original.ids) >= SAME


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("crw", {"fit": "pad"}),
        ("crw", {"fit": "pad", "mask_sampling": "area"}),
        ("crw", {"mask_sampling": "aligned"}),
        ("crw", {"repeat_first": False}),
        ("crw", {"readout": {"radius": None}}),
        ("crw", {"readout": {"radius": 3, "window": "square"}}),
        ("dino", {"stretch_masks": False}),
        ("dino", {"mask_sampling": "aligned"}),
        ("dino", {"readout": {"window": "disc"}}),
        ("dino", {"readout": {"permanent_radius": None}}),
        ("dino", {"fit": "pad", "mask_sampling": "area", "short_side": None}),
    ],
)
def test_without_a_rule_it_is_what_the_code_would_give_without_it(name, changes, request):
    original = request.getfixturevalue(name)
    found = original.by_us(changes)
    assert equal(found, original.ids) < SAME
    assert equal(found, original.by_rules(changes)) >= SAME


@pytest.mark.parametrize("name", ["crw", "dino"])
def test_bf16_is_not_to_the_pixel(name, request):
    original = request.getfixturevalue(name)
    assert equal(original.by_us({"bf16": True}), original.ids) < 1


def test_a_vit_not_prepared_as_dinos_is_not_to_the_pixel(dino):
    encoder = TimmEncoder("test_vit").eval()
    encoder.load_state_dict(dino.network.encoder.state_dict())
    assert equal(dino.by_us({}, PropagationNetwork(encoder)), dino.ids) < SAME


@pytest.fixture(scope="module")
def released():
    """The whole model on a clip, and what the code of UMEC's authors gives."""
    torch.manual_seed(0)
    network = build_network("tiny").eval()
    torch.nn.init.normal_(network.decoder.out.weight, std=0.1)  # it changes the coarse mask and keeps most of it
    frames, mask = clip((64, 96), frames=9)
    with torch.no_grad():
        ids = segment_as_umec_code(network, frames, mask, references=5, top_k=10, radius=4, tau=0.05)
    return network, frames, mask, ids


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"blend_coarse": False},
        {"memory_masks": "coarse"},
        {"memory_masks": "final"},
        {"mask_sampling": "bilinear"},
        {"repeat_first": False},
        {"references": 6},
        {"rounds": 2},
    ],
)
def test_umec_code_gives_the_masks_of_the_released_code_and_each_setting_counts(released, changes):
    network, frames, mask, ids = released
    segmenter = VideoSegmenter.from_protocol(network, "umec_code", readout={"radius": 4}, **changes)
    found = np.stack([segmenter.step(frame, None if t else mask) for t, frame in enumerate(frames)])
    assert (equal(found, ids) >= SAME) == (not changes)


def test_dino_scales_to_480_and_a_multiple_of_64():
    sizes = Resizing(16, short_side=480, fit=64, mask_sampling="nearest").working_size
    assert [sizes(size) for size in ((480, 854), (854, 480), (480, 910), (1080, 1920), (30, 30))] == [
        (480, 832), (832, 480), (480, 896), (480, 832), (480, 448),
    ]  # fmt: skip


def test_a_frame_that_is_scaled_to_fit_is_rounded_to_8_bits():
    pixels = torch.randint(0, 256, (1, 3, 40, 75), dtype=torch.uint8)
    found = Resizing(8, short_side=None, fit=32, mask_sampling="nearest").frame(pixels)
    wanted = bilinear(pixels[0].float(), (40, 64)).round().to(torch.uint8)[None]
    torch.testing.assert_close(found, normalize(wanted))


def test_each_protocol_makes_a_segmenter_in_fp32():
    assert list(PROTOCOLS) == ["crw", "dino", "umec", "umec_code"]
    found = [VideoSegmenter.from_protocol(build_network("tiny"), name) for name in PROTOCOLS]
    assert [(each.references, each.rounds, each.bf16) for each in found] == [
        (20, 0, False), (7, 0, False), (20, 3, False), (5, 1, False),
    ]  # fmt: skip


def test_changes_beat_the_protocol_and_its_temperature_the_networks():
    network = build_network({"preset": "tiny", "tau": 0.3})
    assert VideoSegmenter.from_protocol(network).tau == 0.3
    assert VideoSegmenter.from_protocol(network, "umec").tau == 0.3
    assert VideoSegmenter.from_protocol(network, "dino").tau == 0.1
    changed = VideoSegmenter.from_protocol(network, "crw", readout={"tau": 0.2, "top_k": 3})
    assert (changed.tau, changed.readout, changed.repeat_first) == (0.2, Readout(3, 12, None, 0.2), True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"protocol": "crv"}, "unknown protocol 'crv'; the protocols are crw, dino, umec, umec_code"),
        ({"protocol": "crw", "topk": 3}, "no setting topk; the settings are protocol, rounds.*top_k"),
        ({"protocol": "umec"}, "3 rounds of refinement need a frame-mask encoder and a decoder"),
        ({"protocol": "crw", "readout": {"tau": 0}}, "tau must be above 0"),
        ({"protocol": "crw", "readout": {"mutual": 0.1}}, "mutual.*top_k, radius, permanent_radius, tau, window"),
    ],
)
def test_what_cannot_be_asked_says_so(arguments, words):
    network = PropagationNetwork(TrunkEncoder(blocks=(1, 1), strides=(1, 1)))
    with pytest.raises(ConfigError, match=words):
        VideoSegmenter.from_protocol(network, **arguments)


def test_fast_searches_less_gives_nearly_the_same_masks_and_gives_way_to_what_is_asked_for():
    exact, fast = load_segmenter(short_side=96), load_segmenter(fast=True, short_side=96)
    assert (fast.readout.coarse_to_fine, fast.search_margin) == (192, 12)
    assert (fast.rounds, fast.readout.radius) == (exact.rounds, exact.readout.radius)
    asked = load_segmenter(fast=True, search_margin=None, readout={"coarse_to_fine": 16, "top_k": 5})
    assert (asked.readout.coarse_to_fine, asked.readout.top_k, asked.search_margin) == (16, 5, None)
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    mask = np.zeros((96, 160), np.uint8)
    mask[30:60, 40:80] = 3
    for t in range(4):  # noise that moves, so that each cell has one match
        shown = np.roll(noise, 4 * t, axis=1)
        first = mask if t == 0 else None
        assert (exact.step(shown, first) == fast.step(shown, first)).mean() > 0.99
    with pytest.raises(ConfigError, match="protocol crw searches exactly, and fast does not"):
        load_segmenter(fast=True, protocol="crw")
