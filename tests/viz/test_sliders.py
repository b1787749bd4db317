"""A picture with sliders: it follows them, and shows its still where nothing can be moved."""

import io
import sys
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from vos_umec.errors import ConfigError, MissingDependencyError
from vos_umec.viz import Sliders


def flat(x=0, y=0):
    return np.full((16, 16, 3), 10 * x + y, np.uint8)


def brightness(encoded):
    return round(float(np.asarray(Image.open(io.BytesIO(encoded))).mean()))


def test_the_picture_follows_each_slider():
    shown = Sliders(flat, start={"x": 3}, x=range(10), y=range(0, 100, 20))
    picture, x, y = shown.widget.children
    assert (x.value, y.value, brightness(picture.value)) == (3, 40, 70)
    x.value = 9
    y.value = 80
    assert brightness(picture.value) == 170


def test_readers_without_a_kernel_see_the_still():
    start = Sliders(flat, x=range(3))._repr_mimebundle_()
    assert brightness(b64decode(start["image/jpeg"])) == 10
    still = Sliders(flat, flat(20, 5), x=range(3))._repr_mimebundle_()
    assert brightness(b64decode(still["image/jpeg"])) == 205
    assert any(kind.endswith("widget-view+json") for kind in still)


@pytest.mark.parametrize(
    ("start", "ranges"), [({}, {}), ({}, {"x": range(0)}), ({"x": 5}, {"x": range(5)}), ({"z": 0}, {"x": range(5)})]
)
def test_no_sliders_without_a_place_to_start(start, ranges):
    with pytest.raises(ConfigError, match="one slider or more"):
        Sliders(flat, start=start, **ranges)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(MissingDependencyError, match="vos-umec\\[notebooks\\]"):
        Sliders(flat, x=range(3))
