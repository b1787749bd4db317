"""A training copy: the same videos, whole or not at all, made again only where something changed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli.main import main
from vos_umec.data import preparation as prepare_module
from vos_umec.data.clips import ClipDataset
from vos_umec.data.index import scan
from vos_umec.data.preparation import prepare
from vos_umec.data.search import find_videos
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.source import open_source
from vos_umec.io.video_writer import VideoWriter

FrameFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write_clip(path: Path, frames: int = 20, size: tuple[int, int] = (96, 128)) -> Path:
    """A smooth picture that wanders; its mean level tells the frame."""
    rows, columns = np.indices(size)
    with VideoWriter(path, fps=25, gop=250) as writer:
        for t in range(frames):
            wave = np.sin((rows + 2 * t) / 9) + np.cos((columns - t) / 11)
            writer.write(np.repeat((60 + 5 * t + 20 * wave)[..., None], 3, axis=2).clip(0, 255).astype(np.uint8))
    return path


@pytest.fixture
def videos(tmp_path: Path, frame_folder: FrameFolder) -> Path:
    root = tmp_path / "videos"
    write_clip(root / "zoo" / "bear.mp4")
    write_clip(root / "small.mkv.mp4", frames=7, size=(48, 40))
    frame_folder(root / "train" / "JPEGImages" / "003234408d", frames=6, size=(60, 80), step=5)
    return root


def test_the_copy_has_the_same_videos_frames_and_names(videos: Path, tmp_path: Path) -> None:
    done = prepare(videos, tmp_path / "copy", short_side=48)
    assert sorted(done.copied) == ["small.mkv.mp4", "train/JPEGImages/003234408d", "zoo/bear.mp4"]
    assert (done.kept, done.broken) == ((), ())
    originals, copies = scan(videos), scan(tmp_path / "copy")
    assert [e.id for e in copies] == [e.id for e in originals]
    assert [e.fps for e in copies] == [e.fps for e in originals] == [25.0, None, 25.0]
    assert [(e.facts.frames, e.step) for e in copies] == [(e.facts.frames, e.step) for e in originals]
    assert [e.facts.size for e in copies] == [(48, 40), (48, 64), (48, 64)]  # the first is no larger itself
    for original, copy in zip(originals, copies, strict=True):
        assert copy.source().names == original.source().names
        every = range(original.facts.frames)
        error = copy.source().read(every).astype(float) - original.source().read(every, copy.facts.size)
        assert (error**2).mean() < 10, "38 dB"


def test_training_draws_the_same_clips_from_the_copy(videos: Path, tmp_path: Path) -> None:
    prepare(videos, tmp_path / "copy", short_side=48)
    before, after = (
        ClipDataset(scan(root), clip_length=3, short_side=40, clips_per_video=4)
        for root in (videos, tmp_path / "copy")
    )
    assert len(before) == len(after) == 12
    for item in range(12):
        a, b = before[1, item], after[1, item]
        assert a["video"] == b["video"]
        assert a["frame_indices"].tolist() == b["frame_indices"].tolist()
        assert (a["frames"].float() - b["frames"].float()).abs().mean() < 6


def test_a_frame_folder_may_be_the_root(tmp_path: Path, frame_folder: FrameFolder) -> None:
    frame_folder(tmp_path / "dog")
    prepare(tmp_path / "dog", tmp_path / "copy")
    assert [e.id for e in scan(tmp_path / "copy")] == [e.id for e in scan(tmp_path / "dog")] == ["dog"]


def test_only_what_is_missing_or_changed_is_copied(videos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    prepare(videos, copy, short_side=48, workers=1)
    again = prepare(videos, copy, short_side=48)
    assert (len(again.copied), len(again.kept)) == (0, 3)
    write_clip(videos / "zoo" / "bear.mp4", frames=23)
    assert prepare(videos, copy, short_side=48).copied == ("zoo/bear.mp4",)
    assert {e.id: e.facts.frames for e in scan(copy)}["zoo/bear.mp4"] == 23
    write_clip(videos / "new.mp4")
    assert prepare(videos, copy, short_side=48).copied == ("new.mp4",)
    assert len(prepare(videos, copy, short_side=40).copied) == 4


def test_an_interrupted_copy_leaves_nothing(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "copy" / "zoo" / "bear.mp4"
    request = {
        "path": str(videos / "zoo" / "bear.mp4"),
        "facts": asdict(open_source(videos / "zoo" / "bear.mp4").facts),
        "target": str(target),
        "mark": {"source": [0, 0], "short_side": 48},
    }
    save, saved = Image.Image.save, []

    def interrupted(image: Image.Image, path: Path, **options: object) -> None:
        saved.append(path)
        if len(saved) == 9:
            raise KeyboardInterrupt
        save(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_module._copy(request)
    assert list(target.parent.iterdir()) == []
    monkeypatch.undo()
    assert prepare_module._copy(request) == {}
    assert len(open_source(target)) == 20


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_process_leaves_no_half_video(videos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    long = write_clip(videos / "zoo" / "long.mp4", frames=600)
    process = subprocess.Popen(
        [sys.executable, "-m", "vos_umec.data.preparation"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    request = {
        "path": str(long),
        "facts": asdict(open_source(long).facts),
        "target": str(copy / "zoo" / "long.mp4"),
        "mark": {"source": [0, 0], "short_side": 96},
    }
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while not list(copy.rglob("00050.jpg")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(copy.rglob("00050.jpg")), "killed too early: the test shows nothing"
    assert not (copy / "zoo" / "long.mp4").exists(), "killed too late: the test shows nothing"
    assert find_videos(copy).videos == {}
    assert len(prepare(videos, copy, short_side=48).copied) == 4
    assert {e.id: e.facts.frames for e in scan(copy)}["zoo/long.mp4"] == 600
    assert [path.name for path in copy.rglob(".*.tmp")] == []


def test_broken_videos_are_listed_and_the_rest_goes_on(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "noise.webm").write_bytes(np.random.default_rng(0).bytes(3000))
    assert main(["prepare", str(videos), "--out", str(tmp_path / "copy"), "--short-side", "48"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines[:2]] == [
        f"left out {videos / n}" for n in ("empty.mp4", "noise.webm")
    ]
    assert lines[2].startswith("3 videos copied, 0 already there, 2 left out;")
    assert len(lines) == 3
    assert len(scan(tmp_path / "copy")) == 3


def test_a_video_that_breaks_while_it_is_copied_is_listed(
    videos: Path, tmp_path: Path, frame_folder: FrameFolder
) -> None:
    folder = frame_folder(videos / "cut", frames=5, size=(60, 80))
    whole = (folder / "00003.png").read_bytes()
    (folder / "00003.png").write_bytes(whole[:-60])  # the header, which is all that the index reads, is sound
    done = prepare(videos, tmp_path / "copy", short_side=48)
    assert len(done.copied) == 3
    ((path, reason),) = done.broken
    assert path == folder
    assert "00003.png cannot be decoded" in reason
    assert not (tmp_path / "copy" / "cut").exists()


def test_a_wrong_place_is_an_error(videos: Path, tmp_path: Path) -> None:
    for out in (videos, videos / "copy", tmp_path):
        with pytest.raises(ConfigError, match="lies within the other"):
            prepare(videos, out)
    with pytest.raises(ConfigError, match="short_side is 8"):
        prepare(videos, tmp_path / "copy", short_side=8)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/copy"):
        prepare(videos, tmp_path / "file" / "copy")


def test_other_files_are_never_replaced(videos: Path, tmp_path: Path, frame_folder: FrameFolder) -> None:
    own = frame_folder(tmp_path / "copy" / "zoo" / "bear.mp4")
    (own / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"zoo/bear\.mp4 exists and is not an earlier copy"):
        prepare(videos, tmp_path / "copy", short_side=48)
    assert (own / "notes.txt").read_text() == "mine"
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["zoo"]


def test_what_somebody_put_into_a_copy_is_never_replaced(videos: Path, tmp_path: Path) -> None:
    copy, bear = tmp_path / "copy", tmp_path / "copy" / "zoo" / "bear.mp4"
    prepare(videos, copy, short_side=48)
    (bear / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt.*give --overwrite"):
        prepare(videos, copy, short_side=40)
    (bear / "notes.txt").unlink()
    frame = next(bear.glob("*.jpg"))
    frame.write_bytes(frame.read_bytes() + b"touched up")
    with pytest.raises(DataError, match=frame.name):
        prepare(videos, copy, short_side=40)
    assert frame.read_bytes().endswith(b"touched up")
    assert len(prepare(videos, copy, short_side=40, overwrite=True).copied) == 3


def test_a_copy_without_its_video_is_warned_of(
    videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(videos, tmp_path / "copy", short_side=48)
    (videos / "zoo" / "bear.mp4").unlink()
    prepare(videos, tmp_path / "copy", short_side=48)
    assert "1 videos in" in caplog.text
    assert "first zoo/bear.mp4" in caplog.text
