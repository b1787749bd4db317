import re

import av
import numpy as np
import pytest

from vos_umec.errors import ConfigError, DataError
from vos_umec.io.source import open_source
from vos_umec.io.video_writer import VideoWriter


def write(path, frames, **settings) -> None:
    with VideoWriter(path, **{"fps": 25, **settings}) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (480, 853), (1, 1), (2, 3)])
def test_size_count_and_format(tmp_path, picture, size) -> None:
    path = tmp_path / "new" / "clip.mp4"
    write(path, [picture(n, *size) if min(size) > 8 else np.full((*size, 3), 99, np.uint8) for n in range(5)])
    source = open_source(path)
    assert source.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert len(source) == 5
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 5)
    assert [entry.name for entry in path.parent.iterdir()] == ["clip.mp4"]


def test_frames_come_back_in_order_and_alike(tmp_path, picture, numbers) -> None:
    frames = [picture(n, 96, 128) for n in range(70)]
    write(tmp_path / "clip.mp4", frames)
    source = open_source(tmp_path / "clip.mp4")
    assert source.facts.reader == "decord"
    back = source.read(range(70))
    assert numbers(back) == list(range(70))
    grey = np.stack(frames).mean(-1) - back.mean(-1)  # colors are stored at half the resolution
    assert np.abs(grey).mean() < 4


def test_flat_colors_survive(tmp_path) -> None:
    colors = [(200, 30, 40), (20, 180, 60), (40, 50, 220), (250, 250, 250), (0, 0, 0)]
    write(tmp_path / "clip.mp4", [np.full((32, 32, 3), color, np.uint8) for color in colors], gop=1)
    back = open_source(tmp_path / "clip.mp4").read(range(5)).astype(int)
    assert np.abs(back - np.array(colors)[:, None, None]).max() <= 6


@pytest.mark.parametrize("gop", [1, 4, 24])
def test_key_frames_come_at_least_every_gop(tmp_path, picture, gop) -> None:
    write(tmp_path / "clip.mp4", [picture(n) for n in range(50)], gop=gop)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        keys = [index for index, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys[0] == 0
    assert np.diff([*keys, 50]).max() <= gop


@pytest.mark.parametrize("fps", [1, 24, 23.976, 29.97, 59.94, 0.5, 12.345, 2000, 90_000])
def test_rates(tmp_path, fps) -> None:
    write(tmp_path / "clip.mp4", [np.zeros((16, 16, 3), np.uint8)] * 9, fps=fps)
    assert open_source(tmp_path / "clip.mp4").fps == pytest.approx(fps, rel=1e-3)


def test_a_block_that_fails_leaves_the_old_file(tmp_path, picture) -> None:
    path = tmp_path / "clip.mp4"
    write(path, [picture(1)] * 3)
    old = path.read_bytes()

    class StopError(Exception):
        pass

    def fail(frames) -> None:
        with VideoWriter(path, 25) as writer:
            for frame in frames:
                writer.write(frame)
            raise StopError

    for frames in ([], [picture(2)]):
        with pytest.raises(StopError):
            fail(frames)
    with pytest.raises(DataError, match=r"no frame .*clip\.mp4"), VideoWriter(path, 25):
        pass
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"fps": 1e-4}, "fps is 0.0001"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": float("inf")}, "fps is inf"),
        ({"gop": 0}, "gop is 0"),
        ({"path": "clip.avi"}, "ends in .mp4"),
    ],
)
def test_settings_out_of_range(tmp_path, settings, words) -> None:
    name = settings.pop("path", "clip.mp4")
    with pytest.raises(ConfigError, match=words):
        write(tmp_path / name, [], **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("shape", "dtype"), [((8, 8), "uint8"), ((8, 8, 3), "float64"), ((8, 10, 3), "uint8"), ((0, 8, 3), "uint8")]
)
def test_frames_that_do_not_fit(tmp_path, shape, dtype) -> None:
    frame = np.zeros(shape, dtype)
    with pytest.raises(ConfigError, match=re.escape(str(shape))):
        write(tmp_path / "clip.mp4", [np.zeros((8, 8, 3), np.uint8), frame])
    assert not list(tmp_path.iterdir())
