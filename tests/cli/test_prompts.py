"""The masks that a user gives to a command: frames, objects, several files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli import segment
from vos_umec.cli.parsing import command_parser, plain_words
from vos_umec.cli.prompts import read_prompts
from vos_umec.errors import ConfigError, MaskError
from vos_umec.io.label_file import MaskReading
from vos_umec.io.masks import write_mask


class Source:
    size = (20, 30)
    names = tuple(f"{i:05d}" for i in range(5, 12))


@pytest.fixture
def read(tmp_path):
    """`read_prompts` of words that name files in the test's folder."""

    def placed(words):
        return [f"{before}{equals}{tmp_path / path}" for before, equals, path in (w.rpartition("=") for w in words)]

    def read(*masks, objects=(), **more):
        return read_prompts(Path("clip"), Source(), placed(masks), placed(objects), **more)

    return read


def part(i, rows=(4, 9)):
    mask = np.zeros((20, 30), np.uint8)
    mask[slice(*rows), 4:9] = i
    return mask


@pytest.mark.parametrize(
    ("name", "word", "frame", "index"),
    [
        ("first.png", "first.png", None, 0),
        ("00008.png", "00008.png", None, 3),
        ("first.png", "first.png", "4", 4),
        ("first.png", "first.png", "00009", 4),
        ("first.png", "00009=first.png", None, 4),
        ("first.png", "2=first.png", None, 2),
        ("00008.png", "2=00008.png", None, 2),
        ("00008.png", "00008.png", "00006", 1),
    ],
)
def test_the_frame_of_a_mask(read, tmp_path, caplog, name, word, frame, index):
    write_mask(tmp_path / name, part(3))
    prompts = read(word, frame=frame)
    assert list(prompts.masks) == [index]
    np.testing.assert_array_equal(prompts.masks[index], part(3))
    assert prompts.lines == (
        f"{name}: frame {Source.names[index]} (index {index}): object 3 25 pixels; unknown: none",
    )
    assert ("named for frame 00008, and is used for 00006" in caplog.text) == (frame == "00006")


def test_several_masks_are_of_several_frames_or_several_objects_of_one(read, tmp_path):
    for name, mask in (("00005", part(1)), ("00008", part(1, (10, 15)))):
        write_mask(tmp_path / f"{name}.png", mask)
    prompts = read("00005.png", "00008.png")
    assert [(i, np.unique(mask).tolist()) for i, mask in prompts.masks.items()] == [(0, [0, 1]), (3, [0, 1])]
    for name, mask in (
        ("object_1", part(255)),
        ("object_2", part(255, (10, 15))),
        ("object_3", part(255, (16, 19))),
    ):
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    (mask,) = read("object_1.png", "object_2.png", "object_3.png").masks.values()
    np.testing.assert_array_equal(mask, part(1) + part(2, (10, 15)) + part(3, (16, 19)))
    (mask,) = read(objects=("7=object_1.png", "object_2.png")).masks.values()
    np.testing.assert_array_equal(mask, part(7) + part(2, (10, 15)))
    both = read("0=object_1.png", "0=object_2.png", "4=object_2.png", "4=object_1.png")
    np.testing.assert_array_equal(both.masks[4], part(2) + part(1, (10, 15)))


def test_files_of_one_frame_add_up_unless_they_contradict_each_other(read, tmp_path, caplog):
    write_mask(tmp_path / "a.png", part(1) + part(2, (10, 15)))
    write_mask(tmp_path / "b.png", part(5, (12, 18)))
    write_mask(tmp_path / "c.png", part(2) + part(3, (10, 15)))
    (mask,) = read("a.png", "b.png").masks.values()
    np.testing.assert_array_equal(mask, part(1) + part(2, (10, 12)) + part(5, (12, 18)))
    assert "15 pixels of objects of masks before it" in caplog.text
    with pytest.raises(MaskError, match=r"c\.png shows object 2, which another mask"):
        read("a.png", "c.png")
    write_mask(tmp_path / "00008.png", part(1))
    with pytest.raises(ConfigError, match="--frame 1 is the frame of all masks"):
        read("a.png", "00008.png", frame="1")


@pytest.mark.parametrize("words", [[""], [","], [" ", ""]])
def test_ids_that_name_no_object_are_refused(words, read, tmp_path):
    write_mask(tmp_path / "m.png", part(1))
    with pytest.raises(ConfigError, match="--ids names no object"):
        read("m.png", ids=words)


def test_a_mask_that_is_named_for_the_video_is_of_its_first_frame(tmp_path):
    write_mask(tmp_path / "clip_00008.png", part(1))
    prompts = read_prompts(Path("clip_00008.mp4"), Source(), [str(tmp_path / "clip_00008.png")])
    assert list(prompts.masks) == [0]


def test_a_color_is_one_object_in_all_frames(read, tmp_path):
    colors = np.array([(0, 0, 0), (250, 50, 83), (61, 245, 61)], np.uint8)
    Image.fromarray(colors[part(1)]).save(tmp_path / "00005.png")
    Image.fromarray(colors[part(1) + part(2, (10, 15))]).save(tmp_path / "00006.png")
    prompts = read("00005.png", "00006.png")
    red, green = (
        next(i for i, name in prompts.origins.items() if name == color) for color in ("#fa3253", "#3df53d")
    )
    np.testing.assert_array_equal(prompts.masks[0], part(red))
    np.testing.assert_array_equal(prompts.masks[1], part(red) + part(green, (10, 15)))
    assert f"object {red} (#fa3253) 25 pixels" in prompts.lines[0]
    voc = np.array([(0, 0, 0), (0, 128, 0), (192, 0, 0)], np.uint8)
    Image.fromarray(voc[part(1) + part(2, (10, 15))]).save(tmp_path / "voc.png")
    assert np.unique(read("voc.png").masks[0]).tolist() == [0, 2, 9]


def test_ids_above_254_are_given_free_ones_and_too_many_objects_are_chosen_from(read, tmp_path):
    Image.fromarray(np.array([0, 26001, 2], np.uint16)[part(1) + part(2, (10, 15))]).save(tmp_path / "m.png")
    prompts = read("m.png")
    np.testing.assert_array_equal(prompts.masks[0], part(1) + part(2, (10, 15)))
    assert prompts.origins == {1: "26001"}
    many = np.repeat(np.repeat(np.arange(1, 301, dtype=np.uint16).reshape(20, 15), 4, 0), 4, 1)
    many = np.pad(many, 2)[: Source.size[0] * 4 + 4]
    Source.size, before = many.shape, Source.size
    try:
        Image.fromarray(many).save(tmp_path / "many.png")
        with pytest.raises(MaskError, match=r"300 objects.*at most 254.*--ids"):
            read("many.png")
        prompts = read("many.png", ids=["3,290", "17"])
        assert prompts.origins == {1: "290"}
        assert np.unique(prompts.masks[0]).tolist() == [0, 1, 3, 17]
        with pytest.raises(ConfigError, match="--ids 301: no mask shows it"):
            read("many.png", ids=["301"])
    finally:
        Source.size = before


@pytest.mark.parametrize(
    ("shape", "told"), [((16, 30), r"\(16, 30\).*--resize_mask"), ((30, 20), "turned by a quarter")]
)
def test_a_mask_of_another_size_is_refused(read, tmp_path, shape, told):
    write_mask(tmp_path / "m.png", np.pad(np.ones((4, 4), np.uint8), [(2, shape[0] - 6), (2, shape[1] - 6)]))
    with pytest.raises(MaskError, match=told):
        read("m.png")


def test_a_mask_is_resized_where_that_is_said(read, tmp_path):
    write_mask(tmp_path / "m.png", part(1).repeat(3, 0).repeat(3, 1))
    np.testing.assert_array_equal(read("m.png", reading=MaskReading(resize_mask=True)).masks[0], part(1))
    write_mask(tmp_path / "m.png", part(1)[::2, ::2])
    assert read("m.png", reading=MaskReading(resize_mask=True)).masks[0].shape == (20, 30)


def test_what_is_unknown_and_what_is_missing_is_told(read, tmp_path):
    ids = part(1)
    ids[9:11, 4:9] = 255
    write_mask(tmp_path / "m.png", ids)
    assert read("m.png").lines[0].endswith("object 1 25 pixels; unknown: 10 pixels")
    with pytest.raises(ConfigError, match="--mask FILE"):
        read()
    with pytest.raises(MaskError, match=r"no mask at .*gone\.png"):
        read("gone.png")
    with pytest.raises(ConfigError, match="expected ID=FILE"):
        read(objects=("dog=m.png",))
    with pytest.raises(ConfigError, match="id 2 is given twice"):
        read(objects=("2=m.png", "2=m.png"))
    for value in (0, 255):
        write_mask(tmp_path / "m.png", np.full((20, 30), value, np.uint8))
        with pytest.raises(MaskError, match=r"m\.png"):
            read("m.png")


@pytest.mark.parametrize("palette", [[0, 0, 0, 255, 0, 0], [9, 9, 9, 255, 0, 0]])
def test_any_palette_will_do_where_nothing_else_is_black(palette, read, tmp_path):
    image = Image.fromarray(part(1))
    image.putpalette(palette)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read("mask.png").masks[0], part(1))


class Command:
    @staticmethod
    def run(video: Path, *, mask: list[str] | None = None, resume: bool = False, radius: int | None = None):
        """For `plain_words`."""


@pytest.mark.parametrize(
    ("words", "plain"),
    [
        (["v", "--mask", "a", "--mask=1=b"], ["v", "--mask+", "a", "--mask+=1=b"]),
        (["v", "--resume"], ["v", "--resume=true"]),
        ([], []),
        (["--resume", "--radius", "3", "v"], ["--resume=true", "--radius", "3", "v"]),
        (["--resume", "false", "v"], ["--resume", "false", "v"]),
        (["v", "--resume=true", "--other-one", "3"], ["v", "--resume=true", "--other_one", "3"]),
    ],
)
def test_lists_add_up_and_switches_need_no_value(words, plain):
    assert plain_words(Command, words) == plain


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--ids", "#fa3253", "--ids=#3df53d"], "ids", ["#fa3253", "#3df53d"]),
        (["--background", "#ffffff"], "background", "#ffffff"),
        (["--unknown=#ffffff"], "unknown", "#ffffff"),
        (["--frame", "#3"], "frame", "#3"),
        (["--labelmap", "#1.txt"], "labelmap", Path("#1.txt")),
        (["--mask", "#1.png", "--mask", "a #2.png"], "mask", ["#1.png", "a #2.png"]),
        (["--checkpoint", "#1.ckpt"], "checkpoint", Path("#1.ckpt")),
        (["--crop-margin", "null"], "crop_margin", None),
    ],
)
def test_a_color_and_a_name_that_begin_as_a_comment_of_yaml_arrive(words, name, value):
    parser = command_parser("segment", segment)
    given = parser.parse_args(plain_words(segment, ["clip", "--out", "o", *words]), defaults=False)
    assert given[name] == value


def test_an_option_of_one_value_that_is_given_twice_is_refused():
    with pytest.raises(ConfigError, match="--radius is given twice"):
        plain_words(Command, ["v", "--radius", "3", "--radius=4"])
