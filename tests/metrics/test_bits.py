import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vos_umec.metrics.jf import count, disk, pack_pair, shift

# Widths on both sides of one and of two words of 64 pixels.
widths = st.one_of(st.integers(1, 9), st.sampled_from([63, 64, 65, 127, 128, 129, 140]))
pairs = st.tuples(st.integers(1, 9), widths).flatmap(lambda size: st.tuples(*[npst.arrays(bool, size)] * 2))


def pixels(words):
    return np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little").astype(bool)


def packed(mask):
    """The whole mask as words, (H, w): beside its complement nothing is cut off."""
    return pack_pair(mask, ~mask).bits[0]


@given(pairs)
def test_packing_keeps_every_pixel_and_cuts_only_empty_ones(pair):
    prediction, target = pair
    bits = pack_pair(prediction, target).bits
    assert count(bits).tolist() == [prediction.sum(), target.sum()]
    W = prediction.shape[1]
    mask = pixels(packed(prediction))
    assert np.array_equal(mask[:, :W], prediction)
    assert not mask[:, W:].any()
    if prediction.any():
        # The first row and column of the cut are empty unless the object touches the image's border.
        y, x = np.argwhere(prediction | target).min(axis=0)
        found = np.argwhere(pixels(bits[0] | bits[1])).min(axis=0)
        assert found[0] == min(y, 1)
        assert found[1] % 64 == x % 64
        assert found[1] == x or found[1] >= 64


@given(pairs, st.integers(1, 63))
def test_shift_moves_across_words(pair, n):
    bits = packed(pair[0])
    mask = pixels(bits)
    right, left = np.zeros_like(mask), np.zeros_like(mask)
    right[:, n:], left[:, :-n] = mask[:, :-n], mask[:, n:]
    assert np.array_equal(pixels(shift(bits, n)), right)
    assert np.array_equal(pixels(shift(bits, -n)), left)


@given(
    st.sets(st.tuples(st.integers(0, 11), st.integers(0, 139)), max_size=6),
    st.one_of(st.integers(0, 12), st.sampled_from([40, 63, 64, 65, 128, 150])),
)
@settings(deadline=None)
def test_disk_is_all_pixels_within_the_radius(points, radius):
    y, x = np.mgrid[:12, :140]
    mask, near = np.zeros((12, 140), bool), np.zeros((12, 140), bool)
    for v, u in points:
        mask[v, u] = True
        near |= (y - v) ** 2 + (x - u) ** 2 <= radius**2
    both = np.stack([packed(mask), packed(~mask)])
    assert np.array_equal(pixels(disk(both, radius)[0])[:, :140], near)


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (480, 854)])
def test_two_empty_masks_have_no_rows(size):
    empty = np.zeros(size, bool)
    pair = pack_pair(empty, empty)
    assert pair.bits.shape[1] == 0
    assert count(pair.bits).tolist() == [0, 0]
