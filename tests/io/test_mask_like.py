"""Masks among frames are no frames; frames are frames, whatever they show."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.io.folder import FolderSource
from vos_umec.io.masks import write_mask
from vos_umec.io.source import open_source

Paint = Callable[[Path], None]


def scene(path: Path) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    noise = np.random.default_rng(sum(map(ord, path.name))).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def disc() -> np.ndarray:
    rows, columns = np.indices((40, 60))
    return ((rows - 20) ** 2 + (columns - 30) ** 2 < 100).astype(np.uint8)


def indexed(path: Path) -> None:
    write_mask(path, disc())


def white(path: Path) -> None:
    Image.fromarray(255 * disc()).save(path)


def colored(path: Path) -> None:
    Image.fromarray(disc()[..., None] * np.array([200, 30, 90], np.uint8)).save(path)


@pytest.mark.parametrize(
    ("frames", "masks", "paint"),
    [
        ("{:05d}.jpg", ["first_mask.png"], indexed),
        ("{:05d}.jpg", ["first_mask.jpg"], white),
        ("{:05d}.jpg", ["first.png"], indexed),  # its name says nothing
        ("{:05d}.jpg", ["first.png"], colored),
        ("{:05d}.png", ["first.png"], indexed),
        ("{:05d}.png", ["gt.bmp"], white),
        ("{:05d}.jpg", [f"{k:05d}.png" for k in range(4)], indexed),  # a mask a frame, of the same name
        ("{:05d}.jpg", [f"{k:05d}.png" for k in range(4)], white),
        ("{:05d}.png", [f"{k:05d}_mask.png" for k in range(4)], white),
        ("{:05d}.png", [f"{k:05d}Labels.png" for k in range(4)], colored),
        ("{:05d}.jpg", [f"{k:05d}_{i}.png" for k in range(4) for i in range(3)], white),  # one file an object
        ("mask_dance_{:03d}.jpg", ["first_mask.png"], indexed),  # frames of a dance with masks
    ],
)
def test_masks_among_frames_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, frames: str, masks: list[str], paint: Paint
) -> None:
    expected = [frames.format(k) for k in range(4)]
    for name in expected:
        scene(tmp_path / name)
    for name in masks:
        paint(tmp_path / name)
    source = open_source(tmp_path)
    assert source.names == [Path(name).stem for name in expected]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{len(masks)} of the pictures" in caplog.text
    assert sorted(masks)[0] in caplog.text
    again = FolderSource(tmp_path, source.facts)  # as an index opens it: nothing is looked at again
    assert again.names == source.names


@pytest.mark.parametrize(
    "names",
    [
        ["0.png", "1.png", "2.png"],
        ["a.png", "b.png", "c.jpg"],  # of different patterns
        ["mask_dance_1.png", "mask_dance_2.png", "mask_dance_3.png"],
        ["1.0.jpg", "1.5.jpg", "2.25.jpg"],
    ],
)
def test_frames_stay_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str]) -> None:
    for name in names:
        scene(tmp_path / name)
    assert open_source(tmp_path).names == [Path(name).stem for name in names]
    assert not caplog.records


def test_a_black_frame_that_was_saved_indexed_stays_a_frame(tmp_path: Path) -> None:
    """Some programs write a frame of one color as an indexed PNG; its name is that of the others."""
    for k in range(3):
        scene(tmp_path / f"{k}.png")
    write_mask(tmp_path / "3.png", np.zeros((40, 60), np.uint8))
    assert len(open_source(tmp_path)) == 4


def test_a_folder_of_masks_alone_can_be_read(tmp_path: Path) -> None:
    for k in range(3):
        indexed(tmp_path / f"{k}_mask.png")
    assert len(open_source(tmp_path)) == 3
