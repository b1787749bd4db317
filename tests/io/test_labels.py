"""Masks as people and labelling tools draw them: what is read, what is asked about, what each option decides."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vos_umec.errors import ConfigError, MaskError
from vos_umec.io.label_file import COLOR, MaskReading
from vos_umec.io.label_pixels import edge_labels, harden, speckle
from vos_umec.io.labelmap import read_labelmap
from vos_umec.io.labels import read_label_image
from vos_umec.io.masks import write_mask

SIZE = (60, 80)
RED, GREEN = (250, 50, 83), (61, 245, 61)  # as CVAT colors two labels


@pytest.fixture
def truth() -> np.ndarray:
    """A disc, 1, and a bar, 2, which touch."""
    picture = Image.new("L", SIZE[::-1])
    draw = ImageDraw.Draw(picture)
    draw.ellipse((10, 12, 40, 45), fill=1)
    draw.rectangle((30, 30, 66, 41), fill=2)
    return np.array(picture)


def colored(ids: np.ndarray, *colors: tuple[int, ...]) -> np.ndarray:
    return np.array(colors, np.uint8)[ids]


def saved(folder: Path, values: np.ndarray | Image.Image, ending: str = "png", **more: object) -> Path:
    path = folder / f"mask.{ending}"
    (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(path, **more)
    return path


def soft(ids: np.ndarray, *colors: tuple[int, ...]) -> Image.Image:
    """The mask as a drawing program gives it, antialiased."""
    big = Image.fromarray(colored(ids.astype(int).repeat(4, 0).repeat(4, 1), *colors))
    turned = big.rotate(3, Image.Resampling.NEAREST)
    return turned.resize(SIZE[::-1], Image.Resampling.BOX)


def ranked(labels: np.ndarray) -> np.ndarray:
    """Objects as 1, 2, ... in the order of their labels; -1 and 0 as they are."""
    objects = np.unique(labels[labels > 0])
    return np.where(labels > 0, 1 + np.searchsorted(objects, labels), labels)


@pytest.mark.parametrize("kind", ["labels of CVAT", "one-hot", "alpha", "grey", "16 bits", "float", "int32", "255"])
def test_hard_edged_values_of_any_kind_are_objects(kind, truth, tmp_path):
    made = {
        "labels of CVAT": lambda: saved(tmp_path, colored(truth, (0, 0, 0), GREEN, RED)),
        "one-hot": lambda: saved(tmp_path, colored(truth, (0, 0, 0), (0, 255, 0), (255, 0, 0)), "bmp"),
        "alpha": lambda: saved(tmp_path, colored(truth, (90, 90, 90, 0), (*GREEN, 255), (*RED, 255))),
        "grey": lambda: saved(tmp_path, np.array([0, 38, 75], np.uint8)[truth]),
        "16 bits": lambda: saved(tmp_path, np.array([0, 26001, 26002], np.uint16)[truth]),
        "float": lambda: saved(tmp_path, truth.astype(np.float32), "tif"),
        "int32": lambda: saved(tmp_path, np.array([0, 700, 70000], np.int32)[truth], "tif"),
        "255": lambda: saved(tmp_path, np.array([0, 255, 256], np.uint16)[truth]),
    }
    image = read_label_image(made[kind]())
    np.testing.assert_array_equal(ranked(image.labels), truth)
    if kind == "labels of CVAT":
        assert sorted(image.names.values()) == ["#3df53d", "#fa3253"]


def test_a_photo_with_its_ground_cut_away_is_one_object(truth, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 4), dtype=np.uint8)
    photo[..., 3] = np.where(truth > 0, 255, 0)
    np.testing.assert_array_equal(read_label_image(saved(tmp_path, photo)).labels, truth > 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "16"])
def test_black_and_white_is_one_object(mode, truth, tmp_path):
    white = Image.fromarray(np.where(truth > 0, 255, 0).astype(np.uint8))
    path = saved(tmp_path, np.where(truth > 0, 65535, 0).astype(np.uint16) if mode == "16" else white.convert(mode))
    np.testing.assert_array_equal(read_label_image(path).labels, truth > 0)


def test_a_thin_band_of_255_along_objects_is_unknown_and_anything_else_is_asked_about(truth, tmp_path):
    grown = np.pad(truth > 0, 2)
    band = np.any([grown[y : y + 60, x : x + 80] for y in range(5) for x in range(5)], axis=0) & (truth == 0)
    write_mask(tmp_path / "voc.png", np.where(band, 255, truth))
    np.testing.assert_array_equal(
        read_label_image(tmp_path / "voc.png").labels, np.where(band, -1, truth.astype(int))
    )

    odd = truth.copy()
    odd[50:58, 60:78] = 255
    for path in (saved(tmp_path, odd), tmp_path / "indexed.png"):
        write_mask(tmp_path / "indexed.png", odd)
        with pytest.raises(MaskError, match=r"255 beside 1, 2.*--unknown 255 .*--unknown none"):
            read_label_image(path)
        assert (read_label_image(path, MaskReading(unknown="255")).labels[50:58, 60:78] == -1).all()
        assert (read_label_image(path, MaskReading(unknown="none")).labels[50:58, 60:78] == 255).all()


def test_three_greys_may_be_two_objects_or_a_trimap(truth, tmp_path):
    path = saved(tmp_path, np.array([0, 128, 255], np.uint8)[truth])
    with pytest.raises(MaskError, match=r"--unknown 255 .*--unknown none .*--unknown 128 if 255 alone"):
        read_label_image(path)
    for unknown, expected in (("255", [0, 128, -1]), ("128", [0, -1, 1]), ("none", [0, 128, 255])):
        labels = read_label_image(path, MaskReading(unknown=unknown)).labels
        np.testing.assert_array_equal(labels, np.array(expected)[truth])


@pytest.mark.parametrize("kind", ["dithered", "antialiased", "grey", "palette", "jpeg", "alpha", "probabilities"])
def test_the_true_cause_is_named_and_the_option_that_helps(kind, truth, tmp_path):
    drawing = soft(truth, (0, 0, 0), GREEN, RED)
    alpha = np.dstack([np.full((*SIZE, 3), 200, np.uint8), soft(truth > 0, (0,) * 3, (255,) * 3)])[..., :4]
    path, told = {
        "dithered": lambda: (saved(tmp_path, drawing.convert("P")), "dithered"),
        "antialiased": lambda: (saved(tmp_path, drawing), "soft edges, as antialiased"),
        "grey": lambda: (saved(tmp_path, soft(truth > 0, (0,) * 3, (255,) * 3).convert("L")), "soft edges"),
        "palette": lambda: (saved(tmp_path, drawing.quantize(64)), "soft edges.* with a palette"),
        "jpeg": lambda: (saved(tmp_path, colored(truth, (0, 0, 0), GREEN, RED), "jpg", quality=85), "JPEG"),
        "alpha": lambda: (saved(tmp_path, alpha), "half-transparent"),
        "probabilities": lambda: (
            saved(tmp_path, (truth * 0.31).astype(np.float32), "tif"),
            "between whole numbers",
        ),
    }[kind]()
    with pytest.raises(MaskError, match=told) as caught:
        read_label_image(path)
    assert "\n" not in str(caught.value)
    assert "--edges" in str(caught.value)


@pytest.mark.parametrize("kind", ["antialiased", "palette", "jpeg", "grey"])
def test_hardened_edges_are_where_they_were_drawn(kind, truth, tmp_path):
    path = {
        "antialiased": lambda: saved(tmp_path, soft(truth, (0, 0, 0), GREEN, RED)),
        "palette": lambda: saved(tmp_path, soft(truth, (0, 0, 0), GREEN, RED).quantize(64)),
        "jpeg": lambda: saved(tmp_path, colored(truth, (0, 0, 0), GREEN, RED), "jpg", quality=85),
        "grey": lambda: saved(tmp_path, soft(truth > 0, (0,) * 3, (255,) * 3).convert("L")),
    }[kind]()
    found = ranked(read_label_image(path, MaskReading(edges="harden")).labels)
    turned = Image.fromarray(truth.repeat(4, 0).repeat(4, 1)).rotate(3, Image.Resampling.NEAREST)
    exact = truth if kind == "jpeg" else np.array(turned.resize(SIZE[::-1], Image.Resampling.NEAREST))
    exact = exact > 0 if kind == "grey" else exact
    assert set(np.unique(found)) == set(np.unique(exact))
    assert (found == exact).mean() > 0.97
    for i in np.unique(exact)[1:]:
        assert ((found == i) & (exact == i)).sum() / ((found == i) | (exact == i)).sum() > 0.9


def test_kept_edges_take_every_value_for_an_object(tmp_path):
    values = np.zeros(SIZE, np.uint8)
    values[5, 5:9] = [20, 30, 40, 50]  # four objects of one pixel
    path = saved(tmp_path, values)
    with pytest.raises(MaskError, match="4 fill no area"):
        read_label_image(path)
    assert read_label_image(path, MaskReading(edges="keep")).objects() == [20, 30, 40, 50]


def test_objects_of_a_few_pixels_are_no_soft_edge(tmp_path):
    ids = np.zeros(SIZE, np.uint8)
    ids[5:30, 5:30], ids[40, 40], ids[50, 60:62] = 3, 1, 2
    write_mask(tmp_path / "m.png", ids)
    np.testing.assert_array_equal(read_label_image(tmp_path / "m.png").labels, ids)


def test_a_mask_that_may_be_inverted_is_asked_about(truth, tmp_path):
    path = saved(tmp_path, np.where(truth > 0, 0, 255).astype(np.uint8))
    with pytest.raises(MaskError, match=r"inverted\. --background 255 or --background 0"):
        read_label_image(path)
    np.testing.assert_array_equal(read_label_image(path, MaskReading(background="255")).labels, truth > 0)
    np.testing.assert_array_equal(read_label_image(path, MaskReading(background="0")).labels, truth == 0)


def test_a_background_in_color_is_asked_about(truth, tmp_path):
    path = saved(tmp_path, colored(truth, (255, 255, 255), GREEN, RED))
    with pytest.raises(MaskError, match="#000000, so its background is not certain: --background '#ffffff'"):
        read_label_image(path)
    for word in ("#ffffff", "white", "255"):
        assert np.array_equal(ranked(read_label_image(path, MaskReading(background=word)).labels), truth)
    for word, told in (("#123456", "nowhere"), ("no color", "expected a value, a color")):
        with pytest.raises(ConfigError, match=told):
            read_label_image(path, MaskReading(background=word))


def test_where_all_is_labelled_every_value_may_be_an_object(truth, tmp_path):
    """As the instance ids of Cityscapes: 7 is road."""
    path = saved(tmp_path, np.array([7, 26001, 26002], np.uint16)[truth])
    with pytest.raises(MaskError, match=r"--background 7 .*--background none"):
        read_label_image(path)
    assert read_label_image(path, MaskReading(background="none")).objects() == [7, 26001, 26002]


def test_a_palette_with_the_background_elsewhere_is_asked_about(truth, tmp_path):
    """As Pillow's `quantize` numbers a drawing: here white is 0 and black is 1."""
    image = Image.fromarray(np.where(truth > 0, 0, 1).astype(np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])
    with pytest.raises(MaskError, match=r"mask\.png.* 1 in black.*--background 1"):
        read_label_image(saved(tmp_path, image))
    np.testing.assert_array_equal(
        read_label_image(tmp_path / "mask.png", MaskReading(background="1")).labels, truth > 0
    )


def test_what_shows_nothing_or_several_pictures_is_refused(tmp_path):
    empty = np.zeros((*SIZE, 4), np.uint8)
    with pytest.raises(MaskError, match="transparent everywhere"):
        read_label_image(saved(tmp_path, empty))
    with pytest.raises(MaskError, match="shows no object"):
        read_label_image(saved(tmp_path, empty[..., 0]))
    pages = [Image.fromarray(np.full(SIZE, i, np.uint8)) for i in (0, 1, 2)]
    with pytest.raises(MaskError, match="holds 3 pictures"):
        read_label_image(saved(tmp_path, pages[0], "tif", save_all=True, append_images=pages[1:]))
    with pytest.raises(MaskError, match="below 0"):
        read_label_image(saved(tmp_path, np.full(SIZE, -1, np.int32), "tif"))


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
def test_a_transparent_index_beside_0_is_asked_about(transparency, tmp_path):
    ids = np.zeros(SIZE, np.uint8)
    ids[10:40, 10:50] = ids[:, :20] = 1
    image = Image.fromarray(ids)
    image.putpalette([200, 0, 0, 255, 255, 255])
    path = saved(tmp_path, image, transparency=transparency)
    with pytest.raises(MaskError, match=r"id 1 .* is transparent.*--background 1 or --background 0"):
        read_label_image(path)
    assert ((read_label_image(path, MaskReading(background="1")).labels > 0) == (ids == 0)).all()
    ids[ids == 0] = 2  # where 0 is not there, nothing else can be the ground
    image = Image.fromarray(np.where(ids == 1, 0, ids).astype(np.uint8))
    assert read_label_image(saved(tmp_path, image, transparency=0)).objects() == [2]


MAPS = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:250,50,83::\ncat:61,245,61::\n",
    "names.txt": "dog #fa3253\ncat 61 245 61\n",
    "names.json": json.dumps({"background": "#000000", "dog": "#fa3253", "cat": [61, 245, 61]}),
    "classes.json": json.dumps([{"name": "dog", "color": "#fa3253"}, {"name": "cat", "color": "#3df53d"}]),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("palette", [False, True])
def test_a_label_map_says_which_color_is_which_id(name, palette, truth, tmp_path):
    (tmp_path / name).write_text(MAPS[name])
    drawn = Image.fromarray(colored(truth, (0, 0, 0), RED, GREEN))
    path = saved(tmp_path, drawn.quantize(4) if palette else drawn)
    image = read_label_image(path, MaskReading(labelmap=tmp_path / name))
    np.testing.assert_array_equal(image.labels, truth)
    assert image.names == {1: "dog", 2: "cat"}


def test_a_label_map_of_windows_is_read(tmp_path):
    (tmp_path / "map.txt").write_text(MAPS["labelmap.txt"], encoding="utf-16")
    assert [(label.id, label.name) for label in read_labelmap(tmp_path / "map.txt")] == [
        (0, "background"),
        (1, "dog"),
        (2, "cat"),
    ]


def test_a_color_that_is_not_in_the_label_map_is_named(truth, tmp_path):
    (tmp_path / "map.txt").write_text("dog #fa3253\n")
    path = saved(tmp_path, colored(truth, (0, 0, 0), RED, GREEN))
    with pytest.raises(MaskError, match=r"1 colors that are not in .*map\.txt \(#3df53d\)"):
        read_label_image(path, MaskReading(labelmap=tmp_path / "map.txt"))
    jpeg = saved(tmp_path, colored(truth, (0, 0, 0), RED, RED), "jpg")
    image = read_label_image(jpeg, MaskReading(labelmap=tmp_path / "map.txt", edges="harden"))
    assert ((image.labels == 1) == (truth > 0)).mean() > 0.97


@pytest.mark.parametrize(
    ("name", "text"),
    [("map.txt", text) for text in ("", "dog\n", "dog:1,2\n", "dog 1 2 3\ncat 1 2 3\n", "dog 1 2 300\n")]
    + [("map.json", text) for text in ("5", "[1]", "[" * 200_000, '{"dog": null}')],
)
def test_what_is_no_label_map_is_refused_in_one_line(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(MaskError, match=rf"the label map .*{name}") as caught:
        read_labelmap(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_hard_edges_stay_as_they_are_and_noise_is_told_from_them(truth):
    picture = colored(truth, (0, 0, 0), RED, GREEN)
    np.testing.assert_array_equal(harden(picture), picture)
    assert speckle(truth.astype(np.int64)) == 0
    noise = np.random.default_rng(0).integers(1, 9, SIZE)
    assert speckle(noise) > 0.4
    edge, inside = edge_labels(truth.astype(np.int64))
    assert (edge.tolist(), inside.tolist()) == ([], [0, 1, 2])
    assert COLOR > 2**31  # no number of a file is taken for a color
