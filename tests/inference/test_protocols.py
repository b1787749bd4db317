"""Protocols by name, and label propagation by them against a slow, dense reference."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vos_umec.errors import ConfigError
from vos_umec.inference.protocols import PROTOCOLS
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.matching.readout import Readout
from vos_umec.models.encoder import TrunkEncoder
from vos_umec.models.factory import build_network
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
            image = F.interpolate(soft[4, t].view(1, 1, height, width), size=PADDED, mode="bilinear")[0, 0]
            room = padded(torch.from_numpy(masks[LATE] != 9).float()[None, None])[0, 0]
            soft[4, t] = F.avg_pool2d((image * room)[None], s).flatten()
        if t > LATE:  # each object has an affinity of its own, and what both leave is the background
            first, second = soft[4, t], soft[9, t]
            whole = first + second + (1 - first) * (1 - second)
            soft[4, t], soft[9, t] = first / whole, second / whole
    return soft


def encoders():
    from vos_umec.models.timm_encoder import TimmEncoder

    torch.manual_seed(0)
    return {
        "resnet18": TrunkEncoder(),
        "vit": TimmEncoder("vit_tiny_patch16_224", stride=8, layer=3),
    }


@pytest.mark.parametrize("protocol", ["crw", "dino"])
@pytest.mark.parametrize("encoder", ["resnet18", "vit"])
def test_label_propagation_is_the_dense_reference(encoder, protocol):
    network = PropagationNetwork(encoders()[encoder]).eval()
    frames, masks = video()
    windows = {"radius": 3.0, "permanent_radius": 4 if protocol == "dino" else None}
    segmenter = VideoSegmenter.from_protocol(network, protocol, bf16=False, references=3, readout=windows)
    settings = PROTOCOLS[protocol]
    expected = reference(
        network, frames, masks, 3, **{**settings["readout"], **windows},
        repeat_first=settings.get("repeat_first", False),
    )  # fmt: skip
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


def test_each_protocol_makes_a_segmenter():
    assert list(PROTOCOLS) == ["crw", "dino", "umec"]
    references, rounds = (
        [getattr(VideoSegmenter.from_protocol(build_network("tiny"), name), setting) for name in PROTOCOLS]
        for setting in ("references", "rounds")
    )
    assert (references, rounds) == ([20, 7, 20], [0, 0, 3])


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
        ({"protocol": "crv"}, "unknown protocol 'crv'; the protocols are crw, dino, umec"),
        ({"protocol": "crw", "topk": 3}, "no setting topk; the settings are protocol, rounds.*top_k"),
        ({"protocol": "umec"}, "3 rounds of refinement need a frame-mask encoder and a decoder"),
        ({"protocol": "crw", "readout": {"tau": 0}}, "tau must be above 0"),
        ({"protocol": "crw", "readout": {"mutual": 0.1}}, "mutual.*top_k, radius, permanent_radius, tau"),
    ],
)
def test_what_cannot_be_asked_says_so(arguments, words):
    network = PropagationNetwork(TrunkEncoder(blocks=(1, 1), strides=(1, 1)))
    with pytest.raises(ConfigError, match=words):
        VideoSegmenter.from_protocol(network, **arguments)
