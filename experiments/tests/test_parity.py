"""The comparison with an original's masks, on a made-up clip; and masks of ours, recorded, that must not change.

The originals' own outputs are of real videos and stay outside. `recorded/` has one picture for each protocol: the
masks of all frames, one below the other, of the toy clip and of weights that are a formula. To record them anew,
after a change that is meant: python experiments/tests/test_parity.py
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from parity import compare_all, main, make_segmenter, read_settings, table
from vos_umec.errors import ConfigError, DataError, MaskError
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.models.factory import build_network

SIZE, FRAMES = (50, 83), 7
RECORDED = Path(__file__).parent / "recorded"
SAME = 0.999  # on this machine all pixels are; elsewhere a few scores that nearly tie may fall the other way

TRUNK = {"encoder": {"class_path": "vos_umec.TrunkEncoder", "init_args": {"blocks": [1, 1], "strides": [1, 2]}}}
SMALL = {"top_k": 5, "radius": 4}
CASES = {
    "crw": (TRUNK, {"references": 3, "readout": SMALL}),
    "dino": (TRUNK, {"references": 3, "readout": {**SMALL, "permanent_radius": 4}, "short_side": 80}),
    "umec": ({"preset": "tiny"}, {"references": 3, "readout": SMALL}),
    "umec_code": ({"preset": "tiny"}, {"references": 3, "readout": SMALL}),
}


def clip():
    """Frames (T, H, W, 3) and masks (T, H, W) of a disc and a bar that move over stripes."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    frames, masks = np.empty((FRAMES, *SIZE, 3), np.uint8), np.zeros((FRAMES, *SIZE), np.uint8)
    for t in range(FRAMES):
        masks[t][np.hypot(y - 20, x - (22 + 3 * t)) < 13] = 1
        masks[t][(abs(y - (36 - t)) < 7) & (abs(x - 62) < 12)] = 4
        color = np.array([[90, 110, 70], [200, 90, 60], [0, 0, 0], [0, 0, 0], [60, 100, 200]])[masks[t]]
        waves = 30 * np.sin(x / 4 + masks[t]) + 25 * np.sin(y / 6 + t / 4)
        frames[t] = (color + waves[..., None]).clip(0, 255)
    return frames, masks


def fill(network):
    """Weights that are a formula, so that no generator of random numbers has to stay as it is."""
    for n, (name, x) in enumerate(network.state_dict().items()):
        if x.dim() > 1:
            noise = torch.sin(torch.arange(x.numel(), dtype=torch.float64) * 12.9898 + n) * 43758.5453
            noise = (noise - noise.floor()).view(x.shape) - 0.5  # as good as uniform
            scale = 0.02 if name.startswith("decoder.out") else 1.0
            x.copy_(scale * noise * (12 / x[0].numel()) ** 0.5)
        elif name.endswith("bias"):
            x.zero_()


@pytest.fixture(params=CASES)
def place(request, tmp_path):
    """A protocol, a folder like DAVIS's, and the folder of an original, still without masks."""
    return request.param, *lay_out(request.param, tmp_path)


def lay_out(protocol, root):
    network, changes = CASES[protocol]
    davis, folder = root / "davis", root / "original"
    for t, (frame, mask) in enumerate(zip(*clip(), strict=True)):
        for kind in ("JPEGImages", "Annotations"):
            (davis / kind / "480p" / "toy").mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(davis / f"JPEGImages/480p/toy/{t:05d}.png")
        write_mask(davis / f"Annotations/480p/toy/{t:05d}.png", mask)
    (davis / "ImageSets" / "2017").mkdir(parents=True)
    (davis / "ImageSets" / "2017" / "val.txt").write_text("toy\n")
    (folder / "results" / "toy").mkdir(parents=True)
    built = build_network(network)
    fill(built)
    torch.save(built.state_dict(), folder / "weights.pt")
    settings = {
        "segmenter": {"protocol": protocol, **changes},
        "network": network,
        "init_from": "weights.pt",
    }
    (folder / "parity.yaml").write_text(yaml.safe_dump(settings))
    return davis, folder


def write_results(folder, masks):
    for t, mask in enumerate(masks):
        write_mask(folder / f"results/toy/{t:05d}.png", mask)


def segment(folder):
    frames, masks = clip()
    segmenter = make_segmenter(read_settings(folder))
    return np.stack([segmenter.step(frame, None if t else masks[0]) for t, frame in enumerate(frames)])


def test_masks_are_those_recorded_and_the_table_says_so(place, capsys):
    protocol, davis, folder = place
    recorded = read_mask(RECORDED / f"{protocol}.png").reshape(FRAMES, *SIZE)
    assert set(np.unique(recorded[-1])) == {0, 1, 4}
    write_results(folder, recorded)
    (found,) = compare_all(folder, davis, "val")
    assert (found.sequence, found.frames) == ("toy", FRAMES - 1)
    assert found.equal >= SAME
    for theirs, ours in zip(found.original, found.ours, strict=True):
        assert theirs["J&F"] == pytest.approx(ours["J&F"], abs=0.01)
    main([str(folder), "--davis", str(davis), "--device", "cpu"])
    printed = capsys.readouterr().out
    assert printed.strip() == table([found]).strip()
    assert "| **all** | 6 | 100.000% |" in printed or found.equal < 1


@pytest.mark.parametrize("place", ["crw"], indirect=True)
def test_what_differs_is_counted(place):
    _, davis, folder = place
    masks = segment(folder)
    masks[0] = 0  # the first frame is given, and not compared
    masks[2] = 0
    write_results(folder, masks)
    (found,) = compare_all(folder, davis, "val")
    lost = (segment(folder)[2] > 0).mean() / (FRAMES - 1)
    assert found.equal == pytest.approx(1 - lost)
    assert found.original[0]["J&F"] < found.ours[0]["J&F"]


@pytest.mark.parametrize("place", ["dino"], indirect=True)
def test_what_cannot_be_compared_is_one_clear_line(place):
    _, davis, folder = place
    with pytest.raises(MaskError, match=r"no mask at .*00000\.png"):
        list(compare_all(folder, davis, "val"))
    write_results(folder, np.zeros((FRAMES, 4, 4), np.uint8))
    with pytest.raises(MaskError, match=r"00000\.png has \(4, 4\) pixels \(H, W\) where its frame has \(50, 83\)"):
        list(compare_all(folder, davis, "val"))
    (folder / "parity.yaml").write_text("network: tiny\n")
    with pytest.raises(ConfigError, match=r"parity\.yaml \(found the keys network\); expected the keys segmenter"):
        list(compare_all(folder, davis, "val"))
    (folder / "results" / "toy").rename(folder / "results" / "other")
    with pytest.raises(DataError, match="no folder of a sequence of val; found other"):
        list(compare_all(folder, davis, "val"))


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    RECORDED.mkdir(exist_ok=True)
    for case in CASES:
        with TemporaryDirectory() as temporary:
            found_masks = segment(lay_out(case, Path(temporary))[1])
        write_mask(RECORDED / f"{case}.png", found_masks.reshape(-1, SIZE[1]))
