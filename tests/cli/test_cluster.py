"""`vos-umec cluster` on made frames, and how well a union of segments can cover an object."""

from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vos_umec.cli.cluster import best_union, covered_objects
from vos_umec.cli.main import main
from vos_umec.errors import MaskError
from vos_umec.io.masks import read_mask, write_mask


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
    (tmp_path / "no.ckpt").write_text("mine")
    assert cluster(videos, checkpoint, tmp_path / "no.ckpt") == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vos-umec: error")]
    assert len(told) == 4
    assert "no.ckpt is a file; name a folder" in told.pop()
    assert "nowhere.mp4" in told[0]
    assert "no.ckpt" in told[1]
    assert " 0 " in told[2]
    assert not (tmp_path / "out").exists()


def by_trying(segments, mask):
    numbers = np.unique(segments).tolist()
    best = 0.0
    for chosen in chain.from_iterable(combinations(numbers, n) for n in range(1, len(numbers) + 1)):
        union = np.isin(segments, chosen)
        best = max(best, (union & mask).sum() / (union | mask).sum())
    return best


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0.05, 0.9))
def test_the_best_union_is_the_best_of_all_unions(seed, clusters, share):
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, clusters, (2, 5, 6))
    mask = rng.random((2, 5, 6)) < share * (1 + np.cos(segments)) / 2  # so that segments differ
    mask[0, 0, 0] = True
    assert best_union(segments, mask) == pytest.approx(by_trying(segments, mask))


def test_objects_are_read_at_the_segments_size(tmp_path):
    ids = np.zeros((8, 12), np.uint8)
    ids[:4, :6], ids[4:, 6:], ids[0, 11] = 3, 9, 255
    write_mask(tmp_path / "0.png", ids)
    segments = np.zeros((1, 4, 6), np.uint8)
    segments[0, :2, :3] = 1
    segments[0, 2:, 3:] = np.array([[2, 2, 4], [2, 2, 4]])
    assert covered_objects(segments, [tmp_path / "0.png"]) == {3: 1.0, 9: 1.0}
    with pytest.raises(MaskError):
        covered_objects(segments, [tmp_path / "none.png"])


def test_nothing_of_the_users_is_replaced(videos, checkpoint, tmp_path, capsys, caplog):
    before = {path: path.read_bytes() for path in videos.rglob("*.png")}
    assert cluster(videos, checkpoint, videos) == 1  # each frame would become its segments
    assert "would be written into it" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in videos.rglob("*.png")} == before
    out = tmp_path / "out"
    for t in range(7):
        write_mask(out / "a" / f"frame{t}.png", [[7]])
    write_mask(out / "contact_sheet.png", [[7]])
    assert cluster(videos, checkpoint, out) == 0
    assert read_mask(out / "a" / "frame0.png").tolist() == [[7]] == read_mask(out / "contact_sheet.png").tolist()
    assert sum("did not write" in message for message in caplog.messages) == 2
    caplog.clear()
    assert cluster(videos, checkpoint, out, "--overwrite") == 0
    assert cluster(videos, checkpoint, out) == 0  # its own are replaced
    assert not [message for message in caplog.messages if "did not write" in message]
