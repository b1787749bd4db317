"""`vos-umec horizon` on made videos, in the layouts of DAVIS and of YouTube-VOS."""

import json

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli.main import main
from vos_umec.io.masks import write_mask
from vos_umec.io.written import RECORD


@pytest.fixture(params=["davis17", "youtube-vos"])
def words(request, tmp_path, checkpoint) -> list[str]:
    """Two sequences of a moving square, of 4 and of 7 frames."""
    root = tmp_path / "set" if request.param == "davis17" else tmp_path / "set" / "train"
    for name, frames in (("short", 4), ("long", 7)):
        (root / "JPEGImages" / name).mkdir(parents=True)
        for t in range(frames):
            ids = np.zeros((32, 48), np.uint8)
            ids[8:24, 4 * t : 4 * t + 16] = 3
            write_mask(root / "Annotations" / name / f"{t:05d}.png", ids)
            Image.fromarray(np.where(ids > 0, 255, 30).astype(np.uint8)).convert("RGB").save(
                root / "JPEGImages" / name / f"{t:05d}.jpg"
            )
    given = ["horizon", "--root", str(tmp_path / "set"), "--dataset", request.param, "--device", "cpu"]
    return [*given, "--checkpoint", str(checkpoint), "--starts", "2", "--horizons", "[1, 3]"]


def test_the_model_beside_label_propagation(words, tmp_path, capsys):
    assert main([*words, "--settings", "{references: 2, readout: {top_k: 5}}", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "label propagation" in printed
    assert f"{tmp_path / 'out' / 'horizon.png'}" in printed
    told = json.loads((tmp_path / "out" / "horizon.json").read_text())
    pairs = {(line["horizon"], line["method"]): line["pairs"] for line in told["summary"]}
    # starts at 0 and 2 of 4 frames, at 0 and 3 of 7
    expected = {1: 4, 3: 3, "end": 2}
    assert pairs == {(h, method): n for h, n in expected.items() for method in ("label_propagation", "umec")}
    assert (told["checkpoint"], list(told["segmenters"])) == ("tiny.ckpt", ["label_propagation", "umec"])
    for settings, rounds in zip(told["segmenters"].values(), (0, None), strict=True):
        assert (settings["references"], settings["readout"]["top_k"]) == (2, 5)
        assert settings.get("rounds") == rounds
    with Image.open(tmp_path / "out" / "horizon.png") as picture:
        assert picture.format == "PNG"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {RECORD, "horizon.json", "horizon.png"}
    (tmp_path / "out" / "horizon.png").write_text("mine")
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "(horizon.png)" in capsys.readouterr().err
    assert (tmp_path / "out" / "horizon.png").read_text() == "mine"


def test_several_segmenters_differ_from_what_they_have_in_common(words, tmp_path, capsys):
    more = ["--settings.rounds=2", "--segmenter.final", "{memory_masks: final}"]
    more += ["--segmenter.coarse-one", "{memory_masks: coarse, rounds: 1}", "--out", str(tmp_path / "out")]
    assert main([*words, *more]) == 0
    settings = json.loads((tmp_path / "out" / "horizon.json").read_text())["segmenters"]
    assert [(name, own["rounds"], own.get("memory_masks")) for name, own in settings.items()] == [
        ("label_propagation", 0, None),
        ("final", 2, "final"),
        ("coarse_one", 1, "coarse"),
    ]
    assert "coarse one" in capsys.readouterr().out


def test_what_is_wrong_is_one_line(words, tmp_path, capsys):
    for option, value, told in (
        ("--segmenter.a", "{memory: coarse}", "memory"),
        ("--horizons", "[0]", "horizons"),
        ("--root", str(tmp_path / "no"), "no"),
        ("--checkpoint", "no.ckpt", "no.ckpt"),
    ):
        place = words.index(option) if option in words else len(words)
        given = [*words[:place], option, value, *words[place + 2 :]]
        assert main([*given, "--out", str(tmp_path / "out")]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert told in line
    assert not (tmp_path / "out").exists()
