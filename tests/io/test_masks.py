import io
import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw

from vos_umec.errors import MaskError, VideoReadError
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.io.png import davis_palette, plain_indices, voc_palette
from vos_umec.io.source import open_source


def saved(folder: Path, values: np.ndarray, mode: str | None = None, ending: str = "png") -> Path:
    path = folder / f"mask.{ending}"
    Image.fromarray(values, mode=mode).save(path)
    return path


@settings(max_examples=40, deadline=None)
@given(ids=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_every_id_survives_the_round_trip(tmp_path_factory, ids) -> None:
    path = tmp_path_factory.mktemp("masks") / "a" / "m.png"
    write_mask(path, ids)
    np.testing.assert_array_equal(read_mask(path), ids)
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image.getpalette()).reshape(-1, 3), davis_palette())
    assert [entry.name for entry in path.parent.iterdir()] == ["m.png"]


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint16, np.int8])
def test_any_whole_type_is_written(tmp_path, dtype) -> None:
    write_mask(tmp_path / "m.png", np.array([[0, 1]], dtype))
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 1]]


def test_what_is_no_place_and_what_is_no_rectangle_is_told(tmp_path):
    for place in (None, b"m.png", 3):
        with pytest.raises(MaskError, match=r"a name that ends in \.png"):
            write_mask(place, [[1]])
    with pytest.raises(MaskError, match="rows of different lengths"):
        write_mask(tmp_path / "m.png", [[1], [1, 2]])


def test_a_mask_is_no_place_for_a_picture_of_many_passes(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "m.jpg").write_bytes(data[:-2] + 200 * last + data[-2:])
    with pytest.raises(MaskError, match="scans, more than are read"):
        read_mask(tmp_path / "m.jpg")


def test_a_pointer_of_git_lfs_is_told(tmp_path):
    (tmp_path / "m.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(MaskError, match=r"pointer of Git LFS.*git lfs pull"):
        read_mask(tmp_path / "m.png")
    with pytest.raises(VideoReadError, match=r"pointer of Git LFS.*git lfs pull"):
        open_source(tmp_path)
    (tmp_path / "m.png").rename(tmp_path / "m.mp4")
    with pytest.raises(VideoReadError, match=r"pointer of Git LFS.*git lfs pull"):
        open_source(tmp_path / "m.mp4")


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.zeros((2, 2, 1), int), "shape"),
        (np.zeros(4, int), "shape"),
        (np.zeros((0, 4), int), "shape"),
        (np.zeros((2, 2)), "float64"),
        (np.array([[0, 256]]), "from 0 to 256"),
        (np.array([[-1, 2]]), "from -1 to 2"),
    ],
)
def test_what_is_no_mask_is_not_written(tmp_path, ids, words) -> None:
    write_mask(tmp_path / "m.png", [[7]])
    with pytest.raises(MaskError, match=words):
        write_mask(tmp_path / "m.png", ids)
    assert read_mask(tmp_path / "m.png").tolist() == [[7]]


def test_only_png_is_written(tmp_path) -> None:
    with pytest.raises(MaskError, match=r"m\.jpg.*\.png"):
        write_mask(tmp_path / "m.jpg", [[0]])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_are_ids_whatever_the_palette_and_depth(tmp_path, bits) -> None:
    ids = np.random.default_rng(0).integers(0, 2**bits, (9, 11), dtype=np.uint8)
    image = Image.fromarray(ids)
    image.putpalette(np.random.default_rng(1).integers(0, 256, 3 * 2**bits, dtype=np.uint8).tobytes())
    image.save(tmp_path / "m.png", bits=bits, transparency=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), ids)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0, 0], [0, 0, 0]),
        ([0, 1, 1], [0, 1, 1]),
        ([0, 255, 0], [0, 1, 0]),
        ([255, 255, 255], [1, 1, 1]),
        ([0, 1, 2], [0, 1, 2]),
        ([0, 3, 7], [0, 3, 7]),
        ([1, 2, 255], [1, 2, 255]),
        (list(range(11)), list(range(11))),
    ],
)
@pytest.mark.parametrize("kind", ["L", "RGB", "LA", "16"])
def test_sure_greys(tmp_path, values, expected, kind) -> None:
    grey = np.array([values], np.uint8)
    if kind == "RGB":
        path = saved(tmp_path, np.repeat(grey[..., None], 3, 2))
    elif kind == "LA":
        path = saved(tmp_path, np.stack([grey, np.full_like(grey, 255)], -1), "LA")
    elif kind == "16":
        white = np.where(grey == 255, 65535, grey) if set(values) == {0, 255} or set(values) == {255} else grey
        path = saved(tmp_path, white.astype(np.uint16))
    else:
        path = saved(tmp_path, grey)
    assert read_mask(path).tolist() == [expected]


@pytest.mark.parametrize(
    "values", [[0, 128], [0, 38], [0, 15], [0, 127, 255], [0, 1, 2, 40], [0, 254], [*range(40)]]
)
def test_unsure_greys(tmp_path, values) -> None:
    with pytest.raises(MaskError, match=r"mask\.png .* indexed PNG") as caught:
        read_mask(saved(tmp_path, np.array([values], np.uint8)))
    assert f"{len(values)} grey values ({values[0]}, {values[1]}" in str(caught.value)


def test_two_colors_of_one_bit(tmp_path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[1, 0]]


@pytest.mark.parametrize("palette", [davis_palette, voc_palette])
@given(count=st.integers(1, 21), void=st.booleans())
@settings(max_examples=15, deadline=None)
def test_colors_of_a_known_palette(tmp_path_factory, palette, count, void) -> None:
    ids = np.array([[*range(count + 1), *([255] if void else [])]], np.uint8)
    path = saved(tmp_path_factory.mktemp("masks"), palette()[ids])
    np.testing.assert_array_equal(read_mask(path), ids)


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (255, 0, 255), (255, 255, 0)])
def test_black_and_one_pure_color(tmp_path, color) -> None:
    assert read_mask(saved(tmp_path, np.array([[[0, 0, 0], color]], np.uint8))).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    "colors",
    [
        [(0, 0, 0), (255, 0, 0), (0, 255, 0)],  # which one is object 1?
        [(255, 0, 0), (0, 255, 0)],
        [(0, 0, 0), (200, 0, 0)],
        [(0, 0, 0), (128, 0, 0), (129, 0, 0)],
        [(0, 0, 0), (128, 0, 0), (64, 0, 0)],  # half of object 1 at its edge, or object 8?
        [(0, 0, 0), (128, 0, 0), (200, 200, 200)],
        [(12, 34, 56)],
    ],
)
def test_unsure_colors(tmp_path, colors) -> None:
    with pytest.raises(MaskError, match="not certain"):
        read_mask(saved(tmp_path, np.array([colors], np.uint8)))


@pytest.mark.parametrize("soften", ["antialiased", "smooth resize", "jpeg", "grey"])
@pytest.mark.parametrize("color", [(128, 0, 0), (255, 255, 255), (0, 255, 0)])
def test_soft_edges_never_become_objects(tmp_path, soften, color) -> None:
    big = Image.new("RGB", (400, 400))
    ImageDraw.Draw(big).ellipse((60, 40, 330, 370), fill=color)
    path = tmp_path / "soft.png"
    if soften == "antialiased":
        big.resize((100, 100), Image.Resampling.BOX).save(path)
    elif soften == "smooth resize":
        big.resize((217, 133), Image.Resampling.BILINEAR).save(path)
    elif soften == "grey":
        big.convert("L").resize((90, 90), Image.Resampling.BICUBIC).save(path)
    else:
        path = path.with_suffix(".jpg")
        big.save(path, quality=85)
    with pytest.raises(MaskError, match="hard edges"):
        read_mask(path)


def test_transparent_pixels_are_background(tmp_path) -> None:
    drawn = np.zeros((2, 2, 4), np.uint8)
    drawn[0, 0] = (255, 0, 0, 255)
    drawn[1, 1] = (9, 9, 9, 0)
    assert read_mask(saved(tmp_path, drawn)).tolist() == [[1, 0], [0, 0]]
    drawn[0, 1] = (255, 0, 0, 120)
    with pytest.raises(MaskError, match="half-transparent"):
        read_mask(saved(tmp_path, drawn))


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_no_mask_at_all(tmp_path, content) -> None:
    path = tmp_path / "m.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MaskError, match=r"m\.png"):
        read_mask(path)


def test_a_cut_mask(tmp_path) -> None:
    path = tmp_path / "m.png"
    write_mask(path, np.random.default_rng(0).integers(0, 9, (60, 60)))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(MaskError, match=r"m\.png"):
        read_mask(path)


def png(
    ids: np.ndarray, filters: int = 0, idats: int = 1, extra: bytes = b"", header: bytes | None = None
) -> bytes:
    """An indexed PNG, chunk by chunk; with filter 1 each pixel is stored as its difference from the one before."""
    H, W = ids.shape
    stored = np.diff(ids, axis=1, prepend=np.uint8(0)) if filters == 1 else ids
    rows = np.concatenate([np.full((H, 1), filters, np.uint8), stored], axis=1)
    data = zlib.compress(rows.tobytes())
    cuts = [len(data) * i // idats for i in range(idats + 1)]
    chunks = [(b"IHDR", header or struct.pack(">II5B", W, H, 8, 3, 0, 0, 0)), (b"PLTE", bytes(768))]
    chunks += [(extra, bytes(8))] if extra else []
    chunks += [(b"IDAT", data[a:b]) for a, b in itertools.pairwise(cuts)] + [(b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20)), st.integers(1, 3), st.sampled_from([0, 1])
)
@settings(max_examples=60, deadline=None)
def test_the_quick_way_gives_what_pillow_gives_or_nothing(ids, idats, filters) -> None:
    data = png(ids, filters, idats, extra=b"tEXt")
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), ids)
    quick = plain_indices(data)
    if filters:
        assert quick is None
        return
    np.testing.assert_array_equal(quick, ids)
    assert quick.flags.writeable
    assert quick.flags.c_contiguous


def test_the_quick_way_leaves_all_else_to_pillow() -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    sound = png(ids)
    assert plain_indices(sound) is not None
    others = {
        "no PNG": b"GIF89a" + bytes(40),
        "nothing": b"",
        "filtered rows": png(ids, filters=1),
        "an animation": png(ids, extra=b"acTL"),
        "a header of another length": png(ids, header=bytes(12)),
        "no pixels": png(ids, header=struct.pack(">II5B", 0, 3, 8, 3, 0, 0, 0)),
        "more pixels than there are": png(ids, header=struct.pack(">II5B", 4, 9, 8, 3, 0, 0, 0)),
        "fewer pixels than there are": png(ids, header=struct.pack(">II5B", 4, 2, 8, 3, 0, 0, 0)),
        "a size that would fill the memory": png(
            ids, header=struct.pack(">II5B", 2**31 - 1, 2**31 - 1, 8, 3, 0, 0, 0)
        ),
        "grey": png(ids, header=struct.pack(">II5B", 4, 3, 8, 0, 0, 0, 0)),
        "interlaced": png(ids, header=struct.pack(">II5B", 4, 3, 8, 3, 0, 0, 1)),
    }
    others |= {f"cut at {n}": sound[:n] for n in range(len(sound))}
    places = [n for n in range(len(sound)) if not 33 <= n < 33 + 12 + 768]  # the palette is damaged by one of them
    others |= {f"damaged at {n}": sound[:n] + bytes([sound[n] ^ 1]) + sound[n + 1 :] for n in [*places, 100]}
    for name, data in others.items():
        assert plain_indices(data) is None, name


def test_a_mask_of_floats(tmp_path) -> None:
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "m.tiff")
    with pytest.raises(MaskError, match=r"m\.tiff .*type F"):
        read_mask(tmp_path / "m.tiff")


def test_palettes() -> None:
    # The first rows as everyone in the field knows them.
    known = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]]
    assert davis_palette()[:7].tolist() == voc_palette()[:7].tolist() == known
    assert voc_palette()[[8, 15, 20]].tolist() == [[64, 0, 0], [192, 128, 128], [0, 64, 128]]
    assert davis_palette()[[8, 15, 21, 22, 255]].tolist() == [
        [64, 0, 0],
        [191, 128, 128],
        [128, 64, 128],
        [22, 22, 22],
        [255, 255, 255],
    ]
    assert len(np.unique(voc_palette(), axis=0)) == 256


def test_an_empty_file_a_folder_and_what_is_no_picture_are_told_apart(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder").mkdir()
    for name, told in (("empty.png", "it is empty"), ("text.png", "it is no picture"), ("folder", "is a folder")):
        with pytest.raises(MaskError, match=told):
            read_mask(tmp_path / name)


@pytest.mark.parametrize("given", [None, b"mask.png", 3])
def test_what_is_no_path_is_one_clear_error(given):
    with pytest.raises(MaskError, match=f"by its path; found {type(given).__name__}"):
        read_mask(given)
