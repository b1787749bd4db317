import os
import pickle

import numpy as np
import pytest
from PIL import Image

from vos_umec.errors import ConfigError, DataError, VideoReadError
from vos_umec.io.folder import FolderSource
from vos_umec.io.frames import SourceFacts
from vos_umec.io.source import open_source


def fill(folder, names, size=(20, 30)) -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(np.full((*size, 3), number, np.uint8)).save(folder / name)


def test_natural_order_and_names(tmp_path) -> None:
    fill(tmp_path, ["f1.png", "f2.png", "f10.png", "f11.png", "f100.png"])
    (tmp_path / "readme.txt").write_text("no frame")
    (tmp_path / "._f3.png").write_bytes(b"what a Mac leaves behind")
    source = open_source(tmp_path)
    assert source.names == ["f1", "f2", "f10", "f11", "f100"]
    assert (len(source), source.size, source.fps) == (5, (20, 30), 24.0)
    assert source.read([4, 0, 4])[:, 0, 0, 0].tolist() == [4, 0, 4]
    assert source.read([]).shape == (0, 20, 30, 3)
    assert pickle.loads(pickle.dumps(source)).read([3])[0, 0, 0, 0] == 3


def test_zero_padded_names_are_in_their_order(tmp_path) -> None:
    fill(tmp_path, [f"{5 * index:05d}.jpg" for index in range(12)])
    assert open_source(tmp_path).names[:3] == ["00000", "00005", "00010"]


def test_unequal_sizes(tmp_path) -> None:
    fill(tmp_path, ["0.png", "1.png"])
    fill(tmp_path, ["2.png"], size=(20, 31))
    with pytest.raises(VideoReadError, match=r"2.png has size \(20, 31\).* 0.png had \(20, 30\)"):
        open_source(tmp_path)
    trusting = open_source(tmp_path, SourceFacts("folder", 3, (20, 30), 24.0))
    with pytest.raises(VideoReadError, match=r"2\.png .*\(20, 31\)"):
        trusting.read([2])


def test_a_folder_that_has_changed(tmp_path) -> None:
    fill(tmp_path, ["0.png", "1.png"])
    with pytest.raises(VideoReadError, match="2 frames, and had 3"):
        open_source(tmp_path, SourceFacts("folder", 3, (20, 30), 24.0))
    assert open_source(tmp_path, SourceFacts("folder", 2, (20, 30), 12.0)).fps == 12.0


def test_two_kinds_of_one_frame(tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name in ("0.jpg", "0.png"):
        Image.fromarray(noise).save(tmp_path / name)
    with pytest.raises(DataError, match=" 0 twice"):
        open_source(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of Unix")
def test_a_pipe_or_a_broken_link_among_frames_is_named(tmp_path) -> None:
    fill(tmp_path, ["0.png", "1.png"])
    os.mkfifo(tmp_path / "2.png")  # which would be waited for
    with pytest.raises(VideoReadError, match=r"2\.png .* no file"):
        open_source(tmp_path)
    (tmp_path / "2.png").unlink()
    (tmp_path / "2.png").symlink_to("gone.png")
    with pytest.raises(VideoReadError, match=r"2\.png .* leads nowhere"):
        open_source(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a picture at all"])
def test_a_broken_header_is_found_at_once(tmp_path, content) -> None:
    fill(tmp_path, ["0.png", "1.png"])
    (tmp_path / "2.png").write_bytes(content)
    with pytest.raises(VideoReadError, match=r"2\.png"):
        open_source(tmp_path)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_cut_picture_is_named(tmp_path, ending) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    for name in ("0", "1"):
        Image.fromarray(noise).save(tmp_path / f"{name}.{ending}")
    whole = (tmp_path / f"1.{ending}").read_bytes()
    (tmp_path / f"1.{ending}").write_bytes(whole[: len(whole) // 2])
    source = open_source(tmp_path)
    for size in ((80, 80), (50, 60), (20, 20)):
        assert source.read([0], size).shape == (1, *size, 3)
        with pytest.raises(VideoReadError, match=rf"1\.{ending} "):
            source.read([1], size)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [None, (8, 10)])
def test_exif_sets_pictures_upright(tmp_path, orientation, size) -> None:
    # What each orientation does to the stored rows and columns, from the EXIF standard.
    upright = np.zeros((32, 40, 3), np.uint8)
    upright[:16, :20] = (250, 30, 30)
    upright[:16, 20:] = (30, 250, 30)
    upright[16:, :20] = (30, 30, 250)
    store = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(store[orientation]))
    image.save(tmp_path / "0.jpg", exif=exif, quality=98, subsampling=0)
    source = open_source(tmp_path)
    assert source.size == (32, 40)
    frame = source.read([0], size)[0].astype(int)
    step = 1 if size is None else 4
    assert np.abs(frame[4 // step, 4 // step] - upright[4, 4]).max() < 12
    assert np.abs(frame[4 // step, -1 - 4 // step] - upright[4, -4]).max() < 12
    assert np.abs(frame[-1 - 4 // step, 4 // step] - upright[-4, 4]).max() < 12


def test_small_sizes_of_a_jpeg_are_what_the_whole_picture_shrinks_to(tmp_path) -> None:
    smooth = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(smooth).resize((640, 480), Image.Resampling.BICUBIC)
    image.save(tmp_path / "0.jpg", quality=95)
    expected = np.asarray(image.resize((80, 60), Image.Resampling.BOX)).astype(int)
    found = FolderSource(tmp_path).read([0], (60, 80))[0]
    assert np.abs(found - expected).mean() < 2
    assert FolderSource(tmp_path).read([0], (960, 1280)).shape == (1, 960, 1280, 3)


@pytest.mark.parametrize(
    "kind", [{}, {"subsampling": 0}, {"progressive": True}, {"keep_rgb": True}, {"grey": True}]
)
@pytest.mark.parametrize("size", [(300, 400), (130, 173), (60, 80), (600, 800)])
def test_a_jpeg_of_any_kind_is_scaled_as_pillow_would(tmp_path, kind, size) -> None:
    smooth = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(smooth).resize((640, 480), Image.Resampling.BICUBIC)
    options = {"quality": 95, **kind}
    (image.convert("L") if options.pop("grey", False) else image).save(tmp_path / "0.jpg", **options)
    with Image.open(tmp_path / "0.jpg") as stored:
        expected = np.asarray(stored.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)).astype(float)
    error = FolderSource(tmp_path).read([0], size)[0] - expected
    assert (error**2).mean() < 10  # 38 dB


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 90, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), (10, 20, 30)),
        ("LA", (90, 40), (90, 90, 90)),
        ("I;16", 0x5A00, (0x5A, 0x5A, 0x5A)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode, color, expected) -> None:
    Image.new(mode, (5, 4), color).save(tmp_path / "0.png")
    assert open_source(tmp_path).read([0])[0, 2, 2].tolist() == list(expected)


def test_float_pictures_are_refused(tmp_path) -> None:
    Image.new("F", (5, 4), 0.5).save(tmp_path / "0.tiff")
    with pytest.raises(VideoReadError, match=r"0\.tiff .*type F"):
        open_source(tmp_path).read([0])


def test_an_impossible_size(tmp_path) -> None:
    fill(tmp_path, ["0.png"])
    with pytest.raises(ConfigError, match=r"\(0, 5\)"):
        open_source(tmp_path).read([0], (0, 5))
