import colorsys

import numpy as np
import pytest
from PIL import Image

from vos_umec.errors import ConfigError
from vos_umec.viz.segments import segment_colors, segment_sheet
from vos_umec.viz.sheets import contact_sheet, save_picture


def flat(color, height=30, width=40) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def test_pictures_lie_in_their_cells() -> None:
    sheet = contact_sheet([[flat((255, 0, 0)), flat((0, 255, 0))], [flat((0, 0, 255), 60, 40)]], width=212)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (4 + 75 + 4 + 150 + 4, 212, 3)  # cells of 100, aspect kept
    assert sheet[40, 50].tolist() == [255, 0, 0]
    assert sheet[40, 160].tolist() == [0, 255, 0]
    assert sheet[150, 50].tolist() == [0, 0, 255]
    assert sheet[150, 160].tolist() == [255, 255, 255]  # the second row is shorter
    assert (sheet[:4] == 255).all()
    assert (sheet[:, :4] == 255).all()


def test_labels_are_written_on_their_pictures() -> None:
    rows = [[flat((90, 90, 90)), flat((90, 90, 90))]]
    bare, marked = contact_sheet(rows, width=600), contact_sheet(rows, [["", "frame 7"]], width=600)
    changed = np.argwhere((bare != marked).any(-1))
    assert len(changed) > 100
    assert changed[:, 1].min() > 300
    assert changed[:, 0].max() < 50
    assert {0, 255} <= set(marked[changed[:, 0], changed[:, 1], 0].tolist())


@pytest.mark.parametrize(
    ("rows", "labels", "width"),
    [
        ([], None, 100),
        ([[]], None, 100),
        ([[np.zeros((4, 4), np.uint8)]], None, 100),
        ([[np.zeros((4, 4, 3))]], None, 100),
        ([[flat(0)]], [["a", "b"]], 100),
        ([[flat(0)]], [], 100),
        ([[flat(0)] * 9], None, 100),
    ],
)
def test_sheets_that_cannot_be(rows, labels, width) -> None:
    with pytest.raises(ConfigError, match="expected"):
        contact_sheet(rows, labels, width)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".JPEG"])
def test_save_picture(tmp_path, ending) -> None:
    path = tmp_path / "deep" / f"a{ending}"
    save_picture(path, flat((200, 100, 50)))
    found = np.asarray(Image.open(path)).astype(int)
    assert np.abs(found - (200, 100, 50)).max() <= (0 if ending == ".png" else 3)
    assert len(list(path.parent.iterdir())) == 1


def test_save_picture_refuses(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"a\.gif"):
        save_picture(tmp_path / "a.gif", flat(0))
    with pytest.raises(ConfigError, match="uint8"):
        save_picture(tmp_path / "a.png", np.zeros((4, 4, 3)))
    assert not list(tmp_path.iterdir())


def test_segment_colors_differ_from_number_0_on() -> None:
    colors = segment_colors()
    assert colors.shape == (256, 3)
    for number in range(10):
        others = np.delete(colors[:10].astype(int), number, axis=0)
        assert np.abs(others - colors[number]).sum(1).min() > 90
    hue = [colorsys.rgb_to_hsv(*(colors[number] / 255))[0] for number in range(5)]
    apart = np.abs(np.subtract.outer(hue, hue))
    assert np.minimum(apart, 1 - apart)[~np.eye(5, dtype=bool)].min() > 0.08


def test_segment_sheet_shows_frames_above_and_segments_below() -> None:
    frames = np.stack([flat(100, 20, 20)] * 3)
    segments = np.zeros((3, 20, 20), np.uint8)
    segments[:, :, 10:] = 1
    segments[:, 15:] = 255
    sheet = segment_sheet(frames, segments)
    cell = (1600 - 4 * 4) // 3
    assert sheet.shape == (2 * cell + 12, 1600, 3)
    above, below = sheet[4 : 4 + cell], sheet[8 + cell : 8 + 2 * cell]
    for column in range(3):
        left = 4 + column * (cell + 4)
        assert (above[:, left : left + cell] == 100).all()
        first = below[cell // 4, left + cell // 4].astype(int)
        second = below[cell // 4, left + 3 * cell // 4].astype(int)
        unknown = below[-cell // 16, left + cell // 2].astype(int)
        assert unknown.tolist() == [100, 100, 100]
        assert np.abs(first - 100).max() > 30  # number 0 is colored too
        assert np.abs(first - second).max() > 30


def test_segment_sheet_takes_first_and_last() -> None:
    frames = np.stack([flat(10 * t, 8, 8) for t in range(20)])
    sheet = segment_sheet(frames, np.full((20, 8, 8), 255))
    shown = [sheet[100, 4 + column * (262 + 4) + 50, 0] for column in range(6)]
    assert shown == [0, 40, 80, 110, 150, 190]


@pytest.mark.parametrize(
    ("frames", "segments"),
    [
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros((3, 4, 4), int)),
        (np.zeros((0, 4, 4, 3), np.uint8), np.zeros((0, 4, 4), int)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4), 256)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4), -1)),
    ],
)
def test_segment_sheets_that_cannot_be(frames, segments) -> None:
    with pytest.raises(ConfigError, match="expected"):
        segment_sheet(frames, segments)
