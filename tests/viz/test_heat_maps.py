"""Heat maps, marks on pixels, and keys as colors, against what can be worked out by hand."""

import numpy as np
import pytest

from vos_umec.errors import ConfigError
from vos_umec.viz import heat_map, key_colors, mark_pixel

GREY = np.full((12, 18, 3), 100, np.uint8)


def test_heat_fills_whole_cells_and_rises_in_brightness():
    heat = np.array([[0.0, 0.25, 0.5], [0.75, 1.0, -3.0]])
    picture = heat_map(GREY, heat)
    for row, column in np.ndindex(2, 3):
        cell = picture[6 * row : 6 * row + 6, 6 * column : 6 * column + 6].reshape(-1, 3)
        assert (cell == cell[0]).all()
    assert picture[0, 0].tolist() == picture[11, 17].tolist() == [55, 55, 55]  # the frame, dark
    brightness = [int(picture[y, x].sum()) for y, x in ((0, 0), (0, 17), (6, 0), (6, 6))]
    assert brightness == sorted(brightness)
    assert picture[6, 6].tolist() == [255, 240, 110]


def test_a_shared_peak_makes_maps_comparable():
    low, high = np.full((2, 2), 0.1), np.full((2, 2), 0.4)
    assert (heat_map(GREY, low) == heat_map(GREY, high)).all()
    assert (heat_map(GREY, low, peak=0.4) != heat_map(GREY, high, peak=0.4)).any()
    assert (heat_map(GREY, np.full((1, 1), 7.0), peak=0.4) == heat_map(GREY, high, peak=0.4)).all()


def test_a_map_of_zeros_shows_the_dark_frame():
    assert (heat_map(GREY, np.zeros((3, 4))) == 55).all()


def test_the_grid_need_not_divide_the_frame():
    assert heat_map(GREY, np.eye(5, 7)).shape == GREY.shape


@pytest.mark.parametrize(
    ("heat", "peak", "message"),
    [
        (np.zeros(4), None, r"shape \(4,\)"),
        (np.array([[np.nan]]), None, "finite"),
        (np.zeros((2, 2)), 0.0, "peak is 0.0"),
    ],
)
def test_no_heat_map_of_anything_else(heat, peak, message):
    with pytest.raises(ConfigError, match=message):
        heat_map(GREY, heat, peak)


def test_a_mark_leaves_its_pixel_and_the_input_as_they_are():
    frame = np.full((90, 120, 3), 100, np.uint8)
    marked = mark_pixel(frame, row=0, column=119)  # in a corner, where most of the ring is outside
    assert (frame == 100).all()
    assert marked[0, 119].tolist() == [100, 100, 100]
    assert {tuple(color) for color in marked.reshape(-1, 3)} == {(0, 0, 0), (100, 100, 100), (255, 255, 255)}
    far = np.hypot(*np.mgrid[0:90, -119:1]) > 15
    assert (marked[far] == 100).all()


def test_no_mark_outside():
    with pytest.raises(ConfigError, match=r"pixel \(90, 0\) is outside"):
        mark_pixel(np.zeros((90, 120, 3), np.uint8), row=90, column=0)


def test_key_colors_tell_things_apart_and_keep_them_over_frames():
    rng = np.random.default_rng(0)
    things = rng.normal(size=(4, 16))
    where = rng.integers(0, 4, (3, 6, 8))
    keys = np.moveaxis(things[where] + rng.normal(0, 0.01, (3, 6, 8, 16)), -1, 1)
    colors = key_colors(keys)
    assert colors.shape == (3, 6, 8, 3)
    means = np.stack([colors[where == thing].mean(axis=0) for thing in range(4)])
    assert max(colors[where == thing].std(axis=0).max() for thing in range(4)) < 5
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(4, 1)]
    assert apart.min() > 50
    assert (key_colors(3 * keys + 1) == colors).mean() > 0.99  # neither scale nor offset counts


@pytest.mark.parametrize("keys", [np.zeros((2, 2, 4, 4)), np.full((1, 3, 2, 2), np.inf), np.zeros((3, 4, 4))])
def test_no_colors_of_anything_else(keys):
    with pytest.raises(ConfigError, match="expected"):
        key_colors(keys)
