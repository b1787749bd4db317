"""`ablate.py` as people call it: commands for a cluster, and a run that is killed and resumes."""

import csv
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from ablate import main
from plan import overlay, read_config
from vos_umec import SyntheticVOS
from vos_umec.errors import DataError
from vos_umec.io.masks import read_mask, write_mask

ROOT = Path(__file__).parents[2]
CELLS = ROOT / "experiments" / "cells"
FOLDER = ["--base", "configs/folder.yaml", "--davis", "no/davis"]


def test_there_is_a_command_for_each_training_with_all_its_cells(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the base is found from anywhere
    cells = [str(CELLS / f"{name}.yaml") for name in ("4e_rounds_0", "4c_M2", "4e_rounds_5")]
    extra = ["--data.root=my videos", "--trainer.max_epochs", "3"]
    assert main([*cells, *FOLDER, "--seeds", "0", "7", "--commands", "--", *extra]) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    ran = [[each for each in command if Path(each).parent == CELLS] for command in commands]
    assert ran == [[cells[0], cells[2]], [cells[1]]] * 2
    assert [command[command.index("--seeds") + 1] for command in commands] == ["0", "0", "7", "7"]
    assert all(command[command.index("--") + 1 :] == extra for command in commands)
    for command in commands:  # each is a command that gives itself
        assert Path(command[1]).name == "ablate.py"
        assert main([*command[2 : command.index("--")], "--commands", "--", *extra]) == 0
        assert shlex.split(capsys.readouterr().out) == command


def test_a_missing_davis_folder_shows_before_anything_is_trained(tmp_path):
    with pytest.raises(DataError, match="no/davis"):
        main([str(CELLS / "4a_all.yaml"), *FOLDER, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_set(tmp_path) -> list[str]:
    """Arguments of a set of one run, six epochs of two steps."""
    videos = SyntheticVOS(tmp_path / "videos", train_videos=2, val_videos=1, frames=6, size=(48, 64))
    videos.prepare()
    (sequence,) = videos.val_sequences()
    frames, masks = (tmp_path / "davis" / kind / sequence.name for kind in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True)
    for t, frame in enumerate(sequence.source().read(range(6))):
        Image.fromarray(frame).save(frames / f"{t:05d}.jpg")
        write_mask(masks / f"{t:05d}.png", read_mask(sequence.annotations[t]))
    sizes = {"short_side": 48, "crop": 32, "batch_size": 2, "clips_per_video": 2, "num_workers": 1}
    small = {
        "trainer": {"accelerator": "cpu", "max_epochs": 6},
        "model": {
            "class_path": "vos_umec.UMECModule",
            "init_args": {"halve_every": 2, "evaluation": {"segmenter": {"short_side": 48, "rounds": 1}}},
        },
        "data": {
            "class_path": "vos_umec.VideoFolderDataModule",
            "init_args": {**sizes, "root": str(videos.train_root)},
        },
        "refresh": {
            "warmup_epochs": 1,
            "every_n_epochs": 1,
            "frames_per_video": 5,
            "short_side": 48,
            "pictures": 0,
        },
    }
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump(overlay(read_config(ROOT / "configs" / "folder.yaml"), small)))
    options = {"--base": base, "--davis": tmp_path / "davis", "--seeds": 5}
    return [str(CELLS / "4e_rounds_1.yaml"), *(str(word) for option in options.items() for word in option)]


def table(out: Path) -> list[dict[str, str]]:
    """The rows without times and speeds, which differ from run to run."""
    timed = ("minutes", "frames a second")
    with (out / "table.csv").open() as file:
        return [{name: value for name, value in row.items() if name not in timed} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.timeout(300)  # five processes that each load torch, one after the other
def test_a_run_that_is_killed_resumes_and_gives_the_same_table(small_set, tmp_path):
    """Killed as soon as a second clustering is in force, so before or after the checkpoint that goes with it."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*small_set, "--out", str(whole)]) == 0
    assert (whole / "4e_rounds_1" / "seed_5" / "results.png").is_file()
    assert "frames a second" in (whole / "table.md").read_text()

    command = [sys.executable, str(ROOT / "experiments" / "ablate.py"), *small_set, "--out", str(killed)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not any('"generation": 2' in file.read_text() for file in killed.glob("trainings/*/*/manifest.json")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
    (training,) = killed.glob("trainings/*")
    assert not (training / "finished").exists()
    assert torch.load(training / "checkpoints/last.ckpt", weights_only=True)["epoch"] < 4
    assert not list(killed.glob("*/seed_5/result.json"))

    assert main([*small_set, "--out", str(killed)]) == 0
    assert len(table(killed)) == 1
    assert table(killed) == table(whole)
    assert "Restor" in (training / "log.txt").read_text()  # it did resume
    first, second = (
        torch.load(next(out.glob("trainings/*/checkpoints/last.ckpt")), weights_only=True)
        for out in (whole, killed)
    )
    assert first["global_step"] == second["global_step"] == 12
    for name, weight in first["state_dict"].items():
        assert torch.equal(weight, second["state_dict"][name]), name

    # Another cell of the same weights: nothing is trained, and the baselines are not scored again.
    assert main([str(CELLS / "4e_rounds_0.yaml"), *small_set, "--out", str(killed)]) == 0
    rounds_0, rounds_1 = table(killed)
    assert len(list(training.glob("checkpoints/baselines_*.json"))) == 1
    assert rounds_0["umec J&F"] == rounds_0["label_propagation J&F"] == rounds_1["label_propagation J&F"]
    assert rounds_1["umec J&F"] != rounds_0["umec J&F"]
