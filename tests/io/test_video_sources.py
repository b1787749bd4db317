"""Video files: frame for frame what decoding from the start gives, by whichever reader."""

import os
import random
import struct
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vos_umec.errors import ConfigError, DataError, VideoReadError
from vos_umec.io import pyav
from vos_umec.io.container import FrameWalk
from vos_umec.io.decord import DecordSource
from vos_umec.io.frames import SourceFacts
from vos_umec.io.pyav import PyAVSource
from vos_umec.io.scan import scan_facts, scan_video
from vos_umec.io.source import FrameSource, open_source

SHUFFLED = random.Random(3).sample(range(60), 60)


def sequential(path: Path) -> np.ndarray:
    """Every frame as plain PyAV decodes it from the start: the reference."""
    with av.open(f"file:{path}") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize(
    ("name", "codec", "options", "reader"),
    [
        ("long_gop.mp4", "libx264", {"crf": "12", "bf": "3"}, "decord"),
        ("intra.mov", "mjpeg", {}, "decord"),
        ("old.avi", "mpeg4", {"qscale": "2"}, "decord"),
        ("no_header_count.mkv", "libx264", {"crf": "12"}, "decord"),
        ("web.webm", "libvpx", {"crf": "10", "b": "2M"}, "decord"),
        ("ten_bits.mp4", "libx264", {"crf": "12"}, "decord"),
        ("bare.h264", "libx264", {"crf": "12", "bf": "3"}, "pyav"),
    ],
)
def test_random_access_equals_decoding_from_the_start(make_clip, numbers, name, codec, options, reader) -> None:
    pixels = {"ten_bits.mp4": "yuv420p10le", "intra.mov": "yuvj420p"}.get(name, "yuv420p")
    path = make_clip(name, codec=codec, options=options, pixels=pixels)
    source = open_source(path)
    assert isinstance(source, FrameSource)
    assert source.facts.reader == reader
    assert len(source) == 60
    assert source.size == (48, 64)
    assert source.fps == pytest.approx(25, rel=0.01)
    shuffled = source.read(SHUFFLED)
    assert numbers(shuffled) == SHUFFLED
    alone = np.concatenate([source.read([index]) for index in SHUFFLED[:15]])
    np.testing.assert_array_equal(alone, shuffled[:15])
    reference = sequential(path)[SHUFFLED].astype(int)
    difference = np.abs(shuffled - reference)
    # 10 bits are rounded or dithered down to 8, which is each decoder's own affair
    assert difference.mean() < 4 if pixels == "yuv420p10le" else difference.max() == 0


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    ("name", "codec", "gop", "options"),
    [
        ("pyramid.mp4", "libx264", 250, {"crf": "12", "bf": "4", "x264-params": "b-pyramid=normal:b-adapt=0"}),
        ("open_gop.mp4", "libx264", 12, {"crf": "12", "bf": "3", "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}),
        ("short_gop.mkv", "libx264", 9, {"crf": "12", "bf": "2"}),
        ("sliced.ts", "libx264", 20, {"crf": "12", "bf": "3", "x264-params": "slices=3:intra-refresh=0"}),
        ("refreshed.mp4", "libx264", 20, {"crf": "12", "x264-params": "intra-refresh=1"}),
        ("layers.mp4", "libx265", 30, {"x265-params": "temporal-layers=3:bframes=3:log-level=none"}),
        ("web.webm", "libvpx", 60, {"crf": "10", "b": "2M", "auto-alt-ref": "1"}),
        ("old.avi", "mpeg4", 12, {"qscale": "2"}),
    ],
)
def test_scaled_frames_are_those_of_decoding_from_the_start(
    make_clip, monkeypatch, name, codec, gop, options, threads
) -> None:
    # Frames that no other frame refers to are skipped on the way: no wanted frame may be missed or changed.
    monkeypatch.setattr(pyav, "decoding_threads", lambda: threads)
    path = make_clip(name, codec=codec, gop=gop, options=options)
    size = (36, 48)
    with av.open(f"file:{path}") as container:
        frames = [
            f.reformat(48, 36, "rgb24", interpolation="BILINEAR").to_ndarray() for f in container.decode(video=0)
        ]
    source, chance = open_source(path), random.Random(0)
    for _ in range(25):
        start, gap = chance.randrange(len(frames)), chance.choice([1, 2, 3, 7])
        indices = list(range(start, len(frames), gap))[:5]
        np.testing.assert_array_equal(source.read(indices, size), np.stack([frames[i] for i in indices]))
    np.testing.assert_array_equal(source.read([55, 1, 30, 2], size), np.stack([frames[i] for i in (55, 1, 30, 2)]))


def test_frames_that_no_other_needs_are_not_decoded(make_clip, monkeypatch) -> None:
    path = make_clip(options={"crf": "12", "bf": "3", "x264-params": "b-pyramid=none:b-adapt=0"})
    source = open_source(path)
    decoded = []
    walk = FrameWalk.__iter__
    monkeypatch.setattr(FrameWalk, "__iter__", lambda self: (decoded.append(f.pts) or f for f in walk(self)))
    source.read([40, 42], (24, 32))
    assert 41 not in [pts // 512 for pts in decoded]
    assert len(decoded) < 20  # of 43: a quarter, and what is wanted
    decoded.clear()
    source.read([46, 48], (24, 32))
    assert len(decoded) < 8  # walked on, no seek


def test_scaling_is_as_good_as_that_of_whole_pictures(make_clip) -> None:
    path = make_clip(size=(240, 320), frames=3, options={"crf": "12"})
    with av.open(str(path)) as container:
        whole = [Image.fromarray(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    expected = np.stack([image.resize((160, 120), Image.Resampling.BILINEAR) for image in whole])
    error = open_source(path).read(range(3), (120, 160)).astype(float) - expected
    assert 10 * np.log10(255**2 / (error**2).mean()) > 38  # the picture is noise, the hardest there is


def test_both_readers_give_the_same_frames(make_clip) -> None:
    path = make_clip(gop=20)
    scan = scan_video(path)
    by_decord = DecordSource(path, SourceFacts("decord", scan.frames, scan.size, scan.fps))
    by_pyav = PyAVSource(path, scan_facts(scan, "pyav"))
    np.testing.assert_array_equal(by_decord.read(SHUFFLED), by_pyav.read(SHUFFLED))


def test_groups_open_to_their_predecessor_are_not_left_to_decord(make_clip, numbers) -> None:
    # decord takes the place of a key frame in the file for its place in the video: off by the leading frames.
    options = {"x265-params": "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-adapt=0:scenecut=0:log-level=none"}
    path = make_clip("open.mp4", codec="libx265", options=options)
    source = open_source(path)
    assert source.facts.reader == "pyav"
    assert [numbers(source.read([index]))[0] for index in SHUFFLED] == SHUFFLED


def test_names_repeats_and_emptiness(make_clip, numbers) -> None:
    source = open_source(make_clip(frames=5))
    assert source.names == ["00000", "00001", "00002", "00003", "00004"]
    assert numbers(source.read([4, 0, 4, 4])) == [4, 0, 4, 4]
    assert source.read([]).shape == (0, 48, 64, 3)
    assert source.read([1], (24, 16)).shape == (1, 24, 16, 3)
    assert source.read(np.array([1, 2])).dtype == np.uint8


@pytest.mark.parametrize("indices", [[5], [0, -1], [10**9]])
def test_frames_out_of_range_are_refused(make_clip, indices) -> None:
    with pytest.raises(VideoReadError, match=r"5 frames .*0 to 4"):
        open_source(make_clip(frames=5)).read(indices)


@pytest.mark.parametrize("reader", ["decord", "pyav"])
@pytest.mark.parametrize("indices", ["0", [0.5], [True, False], None, slice(2), [[0], [1, 2]]])
def test_what_is_no_number_of_a_frame_is_refused(make_clip, reader, indices) -> None:
    clip = make_clip(frames=5)
    source = open_source(clip, replace(open_source(clip).facts, reader=reader))
    for size in (None, (24, 32)):
        with pytest.raises(ConfigError, match="frames are read by their numbers"):
            source.read(indices, size)
    assert (source.read(np.array([3, 1], np.uint8)) == source.read([3, 1])).all()
    assert len(source.read([])) == 0


@pytest.mark.parametrize("size", ["24", 24, (24,), (24.5, 32), (24, 0)])
def test_what_is_no_size_is_refused(make_clip, size) -> None:
    with pytest.raises(ConfigError, match="cannot read frames of size"):
        open_source(make_clip(frames=3)).read([0], size)


def test_a_name_is_never_an_option_or_a_protocol(make_clip, monkeypatch) -> None:
    for name in ("-i.mp4", "clip:1.mp4", "ünïcode clip.mp4", "%05d.mp4"):
        path = make_clip(name, frames=3)
        monkeypatch.chdir(path.parent)
        assert len(open_source(name)) == 3
        assert open_source(name).read([2]).shape == (1, 48, 64, 3)


def test_rotation_is_honoured(make_clip) -> None:
    path = make_clip(frames=3)
    upright = open_source(path).read([1])[0]
    data = bytearray(path.read_bytes())
    # The display matrix in the track header, 16.16 fixed point: a quarter turn with the clock, then a shift.
    matrix = data.index(b"tkhd") + 4 + 40
    turn = [0, 1 << 16, 0, -(1 << 16) & 0xFFFFFFFF, 0, 0, 48 << 16, 0, 1 << 30]
    data[matrix : matrix + 36] = struct.pack(">9I", *turn)
    turned = path.with_name("turned.mp4")
    turned.write_bytes(data)
    source = open_source(turned)
    assert source.size == (64, 48)
    np.testing.assert_array_equal(source.read([1])[0], np.rot90(upright, -1))
    source = PyAVSource(turned, scan_facts(scan_video(turned), "pyav"))
    np.testing.assert_array_equal(source.read([1])[0], np.rot90(upright, -1))


# What of the picture as it is coded is shown, by the display matrix of the track header.
LEFT_TO_RIGHT = [-1, 0, 0, 1, 64, 0]
TOP_TO_BOTTOM = [1, 0, 0, -1, 0, 48]
TURNED_TOO = [0, 1, 1, 0, 0, 0]
MIRRORED = [(LEFT_TO_RIGHT, np.fliplr), (TOP_TO_BOTTOM, np.flipud), (TURNED_TOO, lambda x: x.transpose(1, 0, 2))]


@pytest.mark.parametrize(("matrix", "shown"), MIRRORED)
def test_mirrored_videos_are_mirrored(make_clip, matrix, shown) -> None:
    path = make_clip(frames=3)
    plain = open_source(path).read([1])[0]
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d, x, y = (number * (1 << 16) & 0xFFFFFFFF for number in matrix)
    data[place : place + 36] = struct.pack(">9I", a, b, 0, c, d, 0, x, y, 1 << 30)
    mirrored = path.with_name("mirrored.mp4")
    mirrored.write_bytes(data)
    source = open_source(mirrored)
    assert source.facts.reader == "pyav"  # decord turns, and does not mirror
    np.testing.assert_array_equal(source.read([1])[0], shown(plain))


def test_a_name_that_is_no_text_is_read(make_clip, tmp_path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    make_clip(frames=3).rename(tmp_path / name)
    assert open_source(tmp_path / name).read([0, 2]).shape == (2, 48, 64, 3)


def test_shrinking_is_antialiased(tmp_path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    with av.open(str(tmp_path / "stripes.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv444p"
        stream.options = {"qp": "0"}
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stripes, "rgb24")))
        container.mux(stream.encode(None))
    small = open_source(tmp_path / "stripes.mp4").read([0], (16, 16))
    assert abs(small.astype(int) - 127).max() < 25  # grey, neither black nor white


@pytest.mark.parametrize("threads", [1, 4])
def test_the_sound_part_of_a_damaged_file_is_read(make_clip, numbers, monkeypatch, threads, caplog) -> None:
    monkeypatch.setattr(pyav, "decoding_threads", lambda: threads)
    path = make_clip(gop=5, options={"crf": "12", "bf": "0"})
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    place, size = packets[33]
    data[place : place + size] = b"\xff" * size  # lengths of the units inside are nonsense now
    path.write_bytes(data)
    source = open_source(path)
    assert len(source) == 33
    assert numbers(source.read(range(33))) == list(range(33))
    assert numbers(source.read([32, 7, 31])) == [32, 7, 31]
    assert "first 33 frames" in caplog.text
    with pytest.raises(VideoReadError, match="33 frames"):
        source.read([33])


def test_a_recording_that_begins_between_key_frames_begins_at_the_next(make_clip, numbers, tmp_path) -> None:
    path = make_clip("whole.ts", gop=20, options={"crf": "12", "bf": "0"})
    with av.open(str(path)) as container:
        start = [packet.pos for packet in container.demux(video=0) if packet.size][7]
    cut = tmp_path / "cut.ts"
    cut.write_bytes(path.read_bytes()[start // 188 * 188 :])
    source = open_source(cut)
    shown = numbers(source.read(range(len(source))))
    assert shown[-1] == 59
    assert shown == list(range(60 - len(shown), 60))
    assert numbers(source.read([len(source) - 1, 3])) == [59, shown[3]]


@pytest.mark.parametrize("seed", range(12))
def test_noise_in_a_file_ends_in_steady_frames_or_one_error(make_clip, monkeypatch, seed) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(pyav, "decoding_threads", lambda: 1 + seed % 4)
    name, codec = chance.choice([("n.mp4", "libx264"), ("n.mkv", "libx264"), ("n.avi", "mpeg4")])
    path = make_clip(name, gop=12, codec=codec, options={})
    data = bytearray(path.read_bytes())
    for _ in range(15):
        data[chance.randrange(len(data) // 20, len(data))] = chance.randrange(256)
    path.write_bytes(data[: chance.randrange(len(data) // 2, len(data) + 1)])
    try:
        source = open_source(path)
    except DataError:
        return
    frames = source.read(range(len(source)))
    order = chance.sample(range(len(source)), len(source))
    np.testing.assert_array_equal(np.concatenate([source.read([index]) for index in order]), frames[order])


def test_walk_ends_at_the_end_of_a_broken_container() -> None:
    class Stubborn:
        """Fails on each packet, as a broken file does."""

        def demux(self, _stream):
            yield from range(1000)

        def decode(self, _packet):
            raise av.error.InvalidDataError(1094995529, "Invalid data", "x")

    walk = FrameWalk(Stubborn(), Stubborn())
    assert list(walk) == []
    assert walk.damage == "Invalid data"


def test_opening_is_lazy_and_facts_save_the_counting(make_clip, numbers, monkeypatch) -> None:
    path = make_clip(frames=9)
    facts = open_source(path).facts
    assert facts == SourceFacts("decord", 9, (48, 64), 25.0, keys=(0,), stamps=((0, 1), (512, 8)))
    monkeypatch.setattr("vos_umec.io.source.scan_video", lambda path: pytest.fail("counted again"))
    source = open_source(path, facts)
    assert numbers(source.read([8])) == [8]
    assert numbers(source.read([8, 3], (24, 32))) == [8, 3]
    monkeypatch.undo()
    changed = open_source(path, SourceFacts("decord", 8, (48, 64), 25.0))
    with pytest.raises(VideoReadError, match=r"9 frames.* 8 "):
        changed.read([0])


def test_nothing_is_printed(make_clip, capfd) -> None:
    path = make_clip(gop=5)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    source = open_source(path)
    source.read(range(len(source)))
    assert capfd.readouterr() == ("", "")
