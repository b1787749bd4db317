"""`vos-umec segment` on a made clip of a moving square, and the mask that a user gives with it."""

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli.main import main
from vos_umec.cli.shared import read_prompt
from vos_umec.errors import MaskError
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.io.source import open_source
from vos_umec.io.video_writer import VideoWriter


@pytest.fixture
def words(tmp_path) -> list[str]:
    """A `segment` that works, by the model of the package."""
    with VideoWriter(tmp_path / "clip.mp4", 24) as writer:
        for t in range(4):
            frame = np.zeros((32, 48, 3), np.uint8)
            frame[8:24, 4 * t : 4 * t + 16] = 255
            writer.write(frame)
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, :16] = 1
    write_mask(tmp_path / "m.png", mask)
    return [
        "segment",
        str(tmp_path / "clip.mp4"),
        "--mask",
        str(tmp_path / "m.png"),
        "--out",
        str(tmp_path / "out"),
    ]


def test_a_mask_a_frame_and_an_overlay_of_the_frames_are_written(words, checkpoint, tmp_path):
    more = ["--checkpoint", str(checkpoint), "--frame", "1", "--crop-margin", "2", "--top-k", "5"]
    assert main([*words, *more]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["masks", "overlay.mp4"]
    masks = [read_mask(path) for path in sorted((tmp_path / "out/masks").iterdir())]
    assert [mask.any() for mask in masks] == [False, True, True, True]
    shown = open_source(tmp_path / "out/overlay.mp4")
    assert (len(shown), shown.size) == (4, (32, 48))
    grey, colored = shown.read([0, 1]).astype(int)
    assert (grey.max(axis=2) - grey.min(axis=2)).max() < 40  # the frame itself, before there is a mask
    assert (colored.max(axis=2) - colored.min(axis=2))[masks[1] > 0].mean() > 60


def test_the_model_of_the_package_segments_where_no_checkpoint_is_named(words, tmp_path):
    assert main(words) == 0
    masks = [read_mask(path) for path in sorted((tmp_path / "out/masks").iterdir())]
    for t, mask in enumerate(masks):  # the square is where it moved to
        truth = np.zeros((32, 48), bool)
        truth[8:24, 4 * t : 4 * t + 16] = True
        assert ((mask == 1) & truth).sum() / ((mask == 1) | truth).sum() > 0.7


def test_what_cannot_be_used_is_named_in_one_line(words, tmp_path, capsys):
    (tmp_path / "x.ckpt").write_bytes(b"not a checkpoint")
    for more, told in (
        (["--checkpoint", str(tmp_path / "x.ckpt")], "x.ckpt"),
        (["--frame", "4"], "0 to 3"),
        (["--radius", "-1"], "radius"),
        (["--protocol", "best"], "best"),
    ):
        assert main([*words, *more]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    (tmp_path / "out").mkdir()
    (tmp_path / "out/masks").write_text("in the way")
    assert main(words) == 1
    assert str(tmp_path / "out/masks") in capsys.readouterr().err.splitlines()[-1]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["masks"]  # no half a video


class Source:
    size = (20, 30)


@pytest.mark.parametrize(
    ("shape", "value", "told"), [((16, 30), 1, r"\(16, 30\)"), ((20, 30), 0, "m.png"), ((20, 30), 255, "m.png")]
)
def test_a_mask_of_another_size_or_of_nothing_is_refused(shape, value, told, tmp_path):
    write_mask(tmp_path / "m.png", np.full(shape, value, np.uint8))
    with pytest.raises(MaskError, match=told):
        read_prompt(tmp_path / "m.png", tmp_path, Source())


def test_a_palette_with_the_background_elsewhere_is_refused(tmp_path):
    """As Pillow's `quantize` numbers a drawing in black and white: white is 0 and black is 1."""
    indices = np.ones((20, 30), np.uint8)
    indices[4:9, 4:9] = 0
    image, path = Image.fromarray(indices), tmp_path / "mask.png"
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(path)
    with pytest.raises(MaskError, match=r"mask\.png.* 1 in black"):
        read_prompt(path, tmp_path, Source())


@pytest.mark.parametrize("palette", [[0, 0, 0, 255, 0, 0], [9, 9, 9, 255, 0, 0]])
def test_any_palette_will_do_where_nothing_else_is_black(palette, tmp_path):
    ids = np.zeros((20, 30), np.uint8)
    ids[4:9, 4:9] = 1
    image = Image.fromarray(ids)
    image.putpalette(palette)
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_prompt(tmp_path / "mask.png", tmp_path, Source()), ids)
