"""What commands refuse before they work: places, files and settings that cannot be, each in one line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import vos_umec.data.probe
from vos_umec.cli.main import main
from vos_umec.cli.outputs import STATE
from vos_umec.io.masks import write_mask


@pytest.fixture
def segment(tmp_path, monkeypatch, checkpoint) -> list[str]:
    """The words of a `segment` that works."""
    monkeypatch.chdir(tmp_path)
    Path("clip").mkdir()
    for t in range(4):
        Image.effect_noise((48, 32), 60 + t).convert("RGB").save(f"clip/{t:05d}.jpg")
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 8:24] = 1
    write_mask("m.png", mask)
    fast = ["--checkpoint", str(checkpoint), "--rounds", "0", "--short-side", "32"]
    return ["segment", "clip", "--mask", "m.png", "--out", "out", *fast]


def refused(words, capsys) -> str:
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    line = error.strip().splitlines()[-1]
    assert line.startswith("vos-umec: error: ")
    return line


@pytest.mark.parametrize("place", ["masks/00002.png", "overlay.mp4"])
def test_a_folder_where_a_file_is_to_be_is_told_before_the_work(place, segment, capsys):
    Path("out", place).mkdir(parents=True)
    assert f"out/{place} is a folder" in refused([*segment, "--overwrite"], capsys)
    assert not list(Path("out").rglob("0000?.png/*"))
    assert [path.name for path in Path("out/masks").glob("*.png")] == (
        [] if place == "overlay.mp4" else ["00002.png"]
    )


@pytest.mark.parametrize("run", [None, "[]", '{"asked": 5, "done": 2}', "[" * 100_000, '{"asked": {}, "done": {}}'])
def test_a_state_of_a_stranger_ends_in_one_line(run, segment, capsys):
    Path("out").mkdir()
    save_file({"a": torch.zeros(1)}, f"out/{STATE}", None if run is None else {"run": run})
    line = refused([*segment, "--resume"], capsys)
    assert "remove it to begin anew" in line or "another video" in line
    assert main(segment) == 0


@pytest.mark.parametrize("done", [-3, 2, 99])
def test_a_state_that_lacks_what_is_remembered_ends_in_one_line(done, segment, capsys, monkeypatch):
    asked = {}
    monkeypatch.setattr("vos_umec.cli.outputs.Outputs.start", lambda self, about: asked.update(about) or 0)
    assert main(segment) == 0
    save_file({"a": torch.zeros(1)}, f"out/{STATE}", {"run": json.dumps({"asked": asked, "done": done})})
    assert f"out/{STATE} cannot be used" in refused([*segment, "--resume"], capsys)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--mask", "gone.png"], "no mask at gone.png"),
        (["--mask", "2=gone.png"], "no mask at gone.png"),
        (["--object", "1=clip"], "clip, which is a folder"),
        (["--labelmap", "gone.txt"], "the label map gone.txt"),
        (["--top-k", "0"], "top_k"),
        (["--device", "toaster"], "toaster"),
    ],
)
def test_arguments_are_checked_before_the_video_is_decoded(more, told, segment, capsys, monkeypatch):
    monkeypatch.setattr("vos_umec.cli.segment.open_probed", lambda path: pytest.fail("opened the video"))
    assert told in refused([*segment, *more], capsys)


def test_a_model_that_is_missing_is_told_before_the_video_is_decoded(segment, capsys, monkeypatch):
    monkeypatch.setattr("vos_umec.cli.segment.open_probed", lambda path: pytest.fail("opened the video"))
    monkeypatch.setattr("vos_umec.cli.cluster.scan", lambda path: pytest.fail("opened the videos"))
    words = [word if not word.endswith(".ckpt") else "gone.ckpt" for word in segment]
    assert "no checkpoint at gone.ckpt" in refused(words, capsys)
    assert "no checkpoint at gone.ckpt" in refused(
        ["cluster", ".", "--out", "o", "--checkpoint", "gone.ckpt"], capsys
    )


@pytest.mark.parametrize("command", ["cluster", "finetune"])
def test_a_video_that_makes_a_decoder_crash_is_looked_into_elsewhere(command, segment, capsys, monkeypatch):
    Path("v.mp4").write_bytes(b"x")
    crashed = [{"reason": "the decoder crashed (exit code -11)"}]
    monkeypatch.setattr(vos_umec.data.probe, "describe_all", lambda *_, **__: iter(crashed))
    more = ["--mask", "m.png"] if command == "finetune" else []
    assert "v.mp4: the decoder crashed" in refused([command, "v.mp4", "--out", "o", *more], capsys)


def test_many_small_objects_are_one_warning(segment, caplog):
    mask = np.zeros((32, 48), np.uint8)
    mask[::8, ::8] = np.arange(1, 25).reshape(4, 6)
    write_mask("m.png", mask)
    assert main([*segment, "--edges", "keep"]) == 0
    told = [record.getMessage() for record in caplog.records if "fills no cell" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("object 1, 2, 3, 4, 5, 6, 7, 8, ... in frame 00000 fills no cell")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a folder that is in use cannot be removed")
def test_a_folder_that_is_gone_is_told(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; from vos_umec.cli.main import main; os.rmdir(os.getcwd()); sys.exit(main(['evaluate']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=gone, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        1,
        "vos-umec: error: the current folder is gone; go to another one\n",
    )


BOMB = 'a: &a ["x"]\n' + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (BOMB.encode(), "more than 100000 values"),
        (b"a: &a [*a]", "more than 100000 values"),
        (b"name: \xe9\xff", "no text in UTF-8"),
        (b"[" * 20_000, "nested too deeply"),
    ],
)
def test_what_is_no_configuration_is_told_at_once(content, told, tmp_path, capsys):
    (tmp_path / "c.yaml").write_bytes(content)
    start = time.monotonic()
    assert told in refused(["fit", f"--config={tmp_path / 'c.yaml'}"], capsys)
    assert time.monotonic() - start < 20


def test_a_learning_rate_that_cannot_be_is_one_line(segment, capsys):
    words = ["fit", "--config=configs/folder.yaml", "--data.root=.", "--model.learning_rate=-1"]
    small = ["--data.num_workers=0", "--data.short_side=32", "--data.crop=32", "--model.network=tiny"]
    assert "Invalid learning rate" in refused([*words, *small], capsys)
