"""What counts as a video below a folder, and what is said of the rest."""

import logging
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from vos_umec.data.index import scan
from vos_umec.data.search import find_videos
from vos_umec.errors import DataError, VideoReadError
from vos_umec.io.masks import write_mask
from vos_umec.io.video_writer import VideoWriter

FrameFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def masks(folder: Path, names: list[str]) -> None:
    ids = np.zeros((20, 30), np.uint8)
    ids[5:15, 5:15] = 1
    for name in names:
        write_mask(folder / name, ids)


def clip(path: Path, muxer: str, codec: str) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for t in range(6):
            frame = np.random.default_rng(t).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))


def test_every_ending_that_ffmpeg_reads_is_found(tmp_path: Path) -> None:
    kinds = {
        "a.ts": ("mpegts", "mpeg2video"), "b.M2TS": ("mpegts", "libx264"), "c.vob": ("vob", "mpeg2video"),
        "d.mpg": ("mpeg", "mpeg1video"), "e.asf": ("asf", "mpeg4"), "f.h264": ("h264", "libx264"),
        "g.m2v": ("mpeg2video", "mpeg2video"), "h.f4v": ("mp4", "libx264"), "i.3g2": ("3g2", "mpeg4"),
        "j.y4m": ("yuv4mpegpipe", "rawvideo"), "k.nut": ("nut", "mpeg4"), "l.mk3d": ("matroska", "mpeg4"),
        "m.qt": ("mov", "mpeg4"), "n.divx": ("avi", "mpeg4"),
    }  # fmt: skip
    for name, (muxer, codec) in kinds.items():
        clip(tmp_path / name, muxer, codec)
    index = scan(tmp_path)
    assert [entry.id for entry in index] == sorted(kinds)
    assert {entry.facts.frames for entry in index} == {6}


def test_one_warning_counts_what_looks_like_a_picture_or_a_video(
    tmp_path: Path, frame_folder: FrameFolder, caplog: pytest.LogCaptureFixture
) -> None:
    frame_folder(tmp_path / "dog", frames=3)
    for name in ("IMG_1.HEIC", "IMG_2.heic", "a.r3d", "clip.mp4.part", "notes.txt", "dog/sub/x.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "cover.jpg").write_bytes(b"")
    (tmp_path / "download").write_bytes(b"\0\0\0\x20ftypisom0000")
    (tmp_path / "LICENSE").write_text("none of both")
    (tmp_path / "gone.mov").symlink_to(tmp_path / "nothing")
    masks(tmp_path / "dog" / "masks", ["0.png", "1.png"])
    with caplog.at_level(logging.WARNING):
        index = scan(tmp_path)
    assert [entry.id for entry in index] == ["dog"]
    (line,) = [record.getMessage() for record in caplog.records]
    for part in (
        "2 .heic",
        "1 .r3d",
        "1 .mp4.part",
        "1 no ending",
        "1 .jpg",
        "1 .mp4 (below",
        "2 .png (masks)",
        "1 .mov",
    ):
        assert part in line, part
    assert ".txt" not in line
    assert not scan(tmp_path / "dog" / "masks").masks  # a folder that is named itself is what its owner says


@pytest.mark.parametrize("folder", ["masks", "labels/dog", "gt", "Annotations/480p/dog", "SegmentationClass", "x"])
def test_masks_beside_frames_are_no_training_video(
    tmp_path: Path, frame_folder: FrameFolder, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    frame_folder(tmp_path / "frames" / "dog", frames=3)
    masks(tmp_path / folder, [f"{k:05d}.png" for k in range(3)])
    for _ in range(2):  # the second time from the disk
        caplog.clear()
        index = scan(tmp_path)
        assert [entry.id for entry in index] == ["frames/dog"]
        assert index.masks == (tmp_path / folder,)
        assert [record.getMessage().count("masks (first") for record in caplog.records] == [1]


def test_a_video_of_masks_is_no_training_video_and_a_video_named_so_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    disc = np.zeros((48, 64, 3), np.uint8)
    disc[10:30, 20:40] = 255
    for name, frame in (("clip", None), ("clip_mask", disc), ("the_mask_trailer", None)):
        with VideoWriter(tmp_path / f"{name}.mp4", fps=25) as writer:
            for _ in range(3):
                writer.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) if frame is None else frame)
    index = scan(tmp_path)
    assert [entry.id for entry in index] == ["clip.mp4", "the_mask_trailer.mp4"]
    assert index.masks == (tmp_path / "clip_mask.mp4",)


def test_masks_beside_a_folder_of_frames_do_not_hide_it(tmp_path: Path, frame_folder: FrameFolder) -> None:
    frame_folder(tmp_path / "dog" / "frames", frames=3)
    masks(tmp_path / "dog", ["mask_1.png", "mask_2.png"])
    found = find_videos(tmp_path)
    assert list(found.videos) == [tmp_path / "dog" / "frames"]
    assert found.summary() == "2 .png (masks)"


def test_masks_alone_are_nothing_to_train_on(tmp_path: Path) -> None:
    masks(tmp_path / "labels", ["0.png", "1.png"])
    with pytest.raises(DataError, match=r"none of the 1 videos .*labels: it shows masks"):
        scan(tmp_path)


def test_a_picture_of_any_size_is_refused_at_its_header(tmp_path: Path) -> None:
    from vos_umec.data.probe import open_probed
    from vos_umec.io.source import open_source

    for k in range(2):
        (tmp_path / f"{k}.ppm").write_bytes(b"P6 12336 12336 255\n" + bytes(100))
    with pytest.raises(VideoReadError, match="12336 x 12336 pixels, more than are read"):
        open_source(tmp_path)
    (tmp_path / "big.y4m").write_bytes(b"YUV4MPEG2 W12336 H12336 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(1000))
    with pytest.raises(VideoReadError, match="12336 x 12336 pixels, more than are read"):
        open_probed(tmp_path / "big.y4m")
