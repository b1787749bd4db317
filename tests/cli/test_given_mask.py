import numpy as np
import pytest
from PIL import Image

from vos_umec.cli.given_mask import read_given_mask
from vos_umec.errors import MaskError


class Source:
    size = (20, 30)


def test_a_palette_with_the_background_elsewhere_is_told(tmp_path):
    """As Pillow's `quantize` numbers a drawing in black and white: white is 0 and black is 1."""
    indices = np.ones((20, 30), np.uint8)
    indices[4:9, 4:9] = 0
    image, path = Image.fromarray(indices), tmp_path / "mask.png"
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(path)
    with pytest.raises(MaskError, match=r"mask\.png.* 1 in black"):
        read_given_mask(path, tmp_path, Source())


@pytest.mark.parametrize("palette", [[0, 0, 0, 255, 0, 0], [9, 9, 9, 255, 0, 0]])
def test_any_palette_will_do_where_nothing_else_is_black(palette, tmp_path):
    ids = np.zeros((20, 30), np.uint8)
    ids[4:9, 4:9] = 1
    image = Image.fromarray(ids)
    image.putpalette(palette)
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_given_mask(tmp_path / "mask.png", tmp_path, Source()), ids)
