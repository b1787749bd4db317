"""What cannot be opened ends in one line that says what to do."""

import os
import pickle
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.errors import ConfigError, DataError, VideoReadError
from vos_umec.io.frames import resized
from vos_umec.io.source import open_source


def refused(path: Path, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        open_source(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_error_of_a_loader_worker_reaches_the_parent() -> None:
    error = pickle.loads(pickle.dumps(VideoReadError("clip.mp4", "no video stream")))
    assert (error.path, error.reason) == (Path("clip.mp4"), "no video stream")
    assert str(error) == "cannot read clip.mp4: no video stream"


def test_missing(tmp_path) -> None:
    refused(tmp_path / "none.mp4", VideoReadError, "no such file")


def test_what_is_no_path() -> None:
    for what in (None, 5, b"clip.mp4"):
        with pytest.raises(ConfigError, match="a video is named by a path"):
            open_source(what)


def test_empty_folder(tmp_path) -> None:
    refused(tmp_path, DataError, "nothing.*JPEG or PNG")


def test_folder_without_pictures(tmp_path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "notes.txt").touch()
    refused(tmp_path, DataError, r"a\.mp4, notes\.txt.*JPEG or PNG")


@pytest.mark.parametrize("content", [b"", b"hello\n" * 400, bytes(5000)])
@pytest.mark.parametrize("name", ["a.txt", "a.mp4", "a.avi", "a"])
def test_no_video_inside(tmp_path, name, content) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refused(path, VideoReadError, "FFmpeg|not one frame|no moving picture|a text")


def test_playlists_do_not_reach_out(tmp_path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    refused(path, VideoReadError, "cannot read")


def test_single_picture(tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "frame.jpg")
    refused(tmp_path / "frame.jpg", VideoReadError, "single picture.*folder")


def test_sound_alone(tmp_path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    refused(tmp_path / "sound.wav", VideoReadError, "no moving picture")


def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    refused(tmp_path / "pipe.mp4", VideoReadError, "file.*folder")


def test_unknown_codec(make_clip) -> None:
    path = make_clip(frames=3)
    path.write_bytes(re.sub(rb"avc1(?=\x00{7}\x01)", b"zzzz", path.read_bytes()))
    refused(path, VideoReadError, "codec.*h264")


def test_cut_before_its_index(make_clip) -> None:
    path = make_clip(frames=20)  # mp4 keeps its index at the end
    path.write_bytes(path.read_bytes()[:-2000])
    refused(path, VideoReadError, "FFmpeg")


@pytest.mark.parametrize("size", [(480, 854), (854, 480), (7, 7), (60, 900), (333, 500)])
@pytest.mark.parametrize("side", [1, 100, 319, 480])
def test_resized_keeps_the_aspect_to_half_a_pixel(size, side) -> None:
    height, width = resized(size, side)
    assert min(height, width) == side
    scale = side / min(size)
    assert np.abs(np.array([height, width]) - np.array(size) * scale).max() <= 0.5 + 1e-9
    assert resized(size, None) == size


def test_resized_refuses_nothing() -> None:
    with pytest.raises(ConfigError, match="short_side is 0"):
        resized((4, 4), 0)
