import numpy as np
import pytest

from vos_umec.errors import ConfigError
from vos_umec.io.png import davis_palette
from vos_umec.viz.overlays import overlay


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_inside_is_a_blend_outside_is_untouched_between_is_a_line(frame) -> None:
    ids = np.zeros((40, 50), np.uint8)
    ids[10:30, 10:40] = 2
    ids[:5, :5] = 255
    drawn = overlay(frame, ids, alpha=0.25)
    np.testing.assert_array_equal(drawn[ids != 2], frame[ids != 2])
    inner = (slice(11, 29), slice(11, 39))
    blend = 0.75 * frame[inner] + 0.25 * davis_palette()[2]
    assert np.abs(drawn[inner] - blend).max() <= 0.5
    for edge in (drawn[10, 10:40], drawn[29, 10:40], drawn[10:30, 10], drawn[10:30, 39]):
        assert (edge == (0, 255, 0)).all()
    assert drawn.dtype == np.uint8


def test_touching_objects_are_parted(frame) -> None:
    ids = np.ones((40, 50), np.int64)
    ids[:, 25:] = 3
    drawn = overlay(frame, ids)
    assert (drawn[:, 24] == (255, 0, 0)).all()
    assert (drawn[:, 25] == (255, 255, 0)).all()
    assert not (drawn[:, 23] == (255, 0, 0)).all()


def test_large_ids_are_seen(frame) -> None:
    black = np.zeros_like(frame)
    for index in (22, 23, 60, 254):
        assert overlay(black, np.full((40, 50), index), alpha=1.0).max() >= 64


def test_the_frame_is_left_alone(frame) -> None:
    before = frame.copy()
    overlay(frame, np.ones((40, 50), int))
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(
    ("shape", "ids", "alpha"),
    [
        ((4, 4, 3), np.zeros((4, 5), int), 0.5),
        ((4, 4), np.zeros((4, 4), int), 0.5),
        ((4, 4, 3), np.zeros((4, 4), int), 1.5),
        ((4, 4, 3), np.full((4, 4), 256), 0.5),
        ((4, 4, 3), np.full((4, 4), -1), 0.5),
    ],
)
def test_what_does_not_fit(shape, ids, alpha) -> None:
    with pytest.raises(ConfigError, match="expected"):
        overlay(np.zeros(shape, np.uint8), ids, alpha)
