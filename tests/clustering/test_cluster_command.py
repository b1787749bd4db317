from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning import Trainer

from vos_umec.cli.main import main
from vos_umec.io.masks import read_mask
from vos_umec.training.module import UMECModule


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "tiny.ckpt"
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=path.parent)
    trainer.strategy.connect(UMECModule(network="tiny"))
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def videos(tmp_path) -> Path:
    root = tmp_path / "videos"
    for name in ("a", "deep/b"):
        (root / name).mkdir(parents=True)
        for t in range(7):
            frame = np.full((40, 60, 3), 20, np.uint8)
            frame[10:30, 4 * t : 4 * t + 20] = 220
            Image.fromarray(frame).save(root / name / f"frame{t}.png")
    return root


def cluster(videos, checkpoint, out, *more):
    settings = ["--clusters", "3", "--frames", "4", "--short-side", "32", "--device", "cpu"]
    return main(["cluster", str(videos), "--checkpoint", str(checkpoint), "--out", str(out), *settings, *more])


def test_a_folder_gives_indexed_masks_and_one_picture(videos, checkpoint, tmp_path):
    out = tmp_path / "out"
    assert cluster(videos, checkpoint, out) == 0
    for name in ("a", "deep/b"):
        masks = sorted((out / name).iterdir())
        assert len(masks) == 4
        assert {mask.stem for mask in masks} <= {f"frame{t}" for t in range(7)}
        for mask in masks:
            assert Image.open(mask).mode == "P"
            assert read_mask(mask).shape == (32, 48)
            assert read_mask(mask).max() <= 2
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.size[0] == 1600


def test_one_video_and_the_same_masks_again(videos, checkpoint, tmp_path):
    for out in ("one", "two"):
        assert cluster(videos / "a", checkpoint, tmp_path / out) == 0
    first, second = (sorted((tmp_path / out / "a").iterdir()) for out in ("one", "two"))
    assert [path.name for path in first] == [path.name for path in second]
    assert all(x.read_bytes() == y.read_bytes() for x, y in zip(first, second, strict=True))


def test_another_draw_takes_other_frames(videos, checkpoint, tmp_path):
    taken = set()
    for draw in "0123":
        assert cluster(videos / "a", checkpoint, tmp_path / draw, "--gap", "1", "--draw", draw) == 0
        taken.add(tuple(sorted(path.name for path in (tmp_path / draw / "a").iterdir())))
    assert len(taken) > 1


def test_errors_are_one_line(videos, checkpoint, tmp_path, capsys):
    assert cluster(tmp_path / "nowhere.mp4", checkpoint, tmp_path / "out") == 1
    assert cluster(videos, tmp_path / "no.ckpt", tmp_path / "out") == 1
    assert cluster(videos, checkpoint, tmp_path / "out", "--gap", "0") == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vos-umec: error")]
    assert len(told) == 3
    assert "nowhere.mp4" in told[0]
    assert "no.ckpt" in told[1]
    assert " 0 " in told[2]
    assert not (tmp_path / "out").exists()
