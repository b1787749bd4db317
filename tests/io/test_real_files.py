"""The real files, where they are there: odd ones, clips of every kind, DAVIS masks and their palette."""

import random
import time

import av
import numpy as np
import pytest
from PIL import Image

from vos_umec.errors import DataError, VideoReadError
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.io.png import davis_palette, voc_palette
from vos_umec.io.source import open_source

# Frames that FFmpeg decodes from the start, up to the first error.
FRAMES = {
    "-video-with-dash-.mp4": 5,
    "av1_video.mkv": 125,
    "bitmap.mp4": 5,
    "block_ends_beyond_cluster.mkv": 1,
    "corrupted.mp4": 28,
    "h264_10bits.mp4": 30,
    "h265_video.mp4": 10,
    "no_duration.webm": 74,
    "test_stereo_left_right.webm": 26,
    "transparent.webm": 150,
    "unordered.mov": 4,
    "video_0.mov": 3,
    "video_90.mov": 3,
    "video_with_failing_audio.mp4": 280,
    "webm.webm": 1,
}


def plain(path) -> np.ndarray:
    """Every frame that PyAV decodes from the start, at 1/4 of the pixels."""
    frames = []
    with av.open(f"file:{path}") as container:
        try:
            for frame in container.decode(video=0):
                picture = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                frames.append(picture[::4, ::4])
        except av.error.InvalidDataError:
            pass
    return np.stack(frames)


def agrees(path) -> None:
    """The source gives the frames of sequential decoding: their count, and each of them, in any order."""
    source = open_source(path)
    expected = plain(path)
    assert len(source) == len(expected)
    order = random.Random(0).sample(range(len(source)), min(len(source), 12))
    for index in order[:5]:
        found = source.read([index])[0]
        assert found.shape[:2] == source.size
        assert np.abs(found[::4, ::4].astype(int) - expected[index]).mean() < 4, index
    at_once = source.read(order)[:, ::4, ::4].astype(int)
    assert np.abs(at_once - expected[order]).mean() < 4


@pytest.mark.slow
def test_every_odd_file_ends_in_frames_or_in_one_clear_error(real_data) -> None:
    for path in sorted((real_data / "odd").iterdir()):
        start = time.monotonic()
        if path.name in FRAMES:
            agrees(path)
            assert len(open_source(path)) == FRAMES[path.name]
        else:
            with pytest.raises(VideoReadError) as caught:
                open_source(path)
            assert "\n" not in str(caught.value)
        assert time.monotonic() - start < 20, path.name


def test_rotation_of_a_real_file(real_data) -> None:
    assert open_source(real_data / "odd" / "video_0.mov").size == (320, 568)
    assert open_source(real_data / "odd" / "video_90.mov").size == (568, 320)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_real_clip_is_read_frame_for_frame(real_data) -> None:
    clips = sorted((real_data / "videos" / "various").glob("*.*"))
    for path in clips + sorted((real_data / "videos" / "davis_train").glob("*.*"))[::20]:
        agrees(path)
    counts = {name: len(open_source(real_data / "videos" / "various" / name)) for name in ("book.mkv", "teddy.mp4")}
    assert counts == {"book.mkv": 109, "teddy.mp4": 141}


def test_frame_folders(real_data) -> None:
    source = open_source(real_data / "videos" / "various" / "shiba_frames")
    assert source.size == (720, 405)
    assert source.read([0, 29], (320, 180)).shape == (2, 320, 180, 3)
    with pytest.raises(DataError, match="no pictures in the folder"):
        open_source(real_data / "videos")


def test_davis_masks_and_palette(real_data, tmp_path) -> None:
    masks = sorted((real_data / "davis" / "Annotations").glob("*/*/*.png"))[::20]
    palettes = []
    for path in masks:
        with Image.open(path) as image:
            assert read_mask(path).tolist() == np.asarray(image).tolist()
            palettes.append(np.array(image.getpalette()).reshape(-1, 3).tolist())
    # A few sequences of DAVIS carry the color map of PASCAL VOC, the others the palette of DAVIS 2017.
    assert all(palette in (davis_palette().tolist(), voc_palette().tolist()) for palette in palettes)
    assert palettes.count(davis_palette().tolist()) > len(palettes) / 2
    write_mask(tmp_path / "m.png", read_mask(masks[0]))
    assert read_mask(tmp_path / "m.png").tolist() == read_mask(masks[0]).tolist()
