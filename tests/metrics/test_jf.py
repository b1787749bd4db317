"""Packed masks, region similarity J and boundary measure F, compared with slow loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vos_umec.errors import ConfigError, MaskError
from vos_umec.metrics.jf import boundary_f, contour, count, disk, jaccard, pack_pair, shift

# Widths on both sides of one and of two words of 64 pixels.
widths = st.one_of(st.integers(1, 9), st.sampled_from([63, 64, 65, 127, 128, 129, 140]))
wide_pairs = st.tuples(st.integers(1, 9), widths).flatmap(lambda size: st.tuples(*[npst.arrays(bool, size)] * 2))


def pixels(words):
    return np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little").astype(bool)


def packed(mask):
    """The whole mask as words, (H, w): beside its complement nothing is cut off."""
    return pack_pair(mask, ~mask).bits[0]


@given(wide_pairs)
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


@given(wide_pairs, st.integers(1, 63))
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


stacks = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
stack_pairs = stacks.flatmap(lambda shape: st.tuples(*[npst.arrays(bool, shape)] * 2))


def slow_jaccard(prediction, target):
    values = []
    for mask, truth in zip(prediction.tolist(), target.tolist(), strict=True):
        both = either = 0
        for row, truth_row in zip(mask, truth, strict=True):
            for p, g in zip(row, truth_row, strict=True):
                both += p and g
                either += p or g
        values.append(both / either if either else 1.0)
    return values


@given(stack_pairs)
def test_jaccard_equals_a_loop_over_pixels(pair):
    assert jaccard(*pair).tolist() == slow_jaccard(*pair)


@given(stack_pairs)
def test_jaccard_is_symmetric_and_one_for_itself(pair):
    prediction, target = pair
    assert np.array_equal(jaccard(prediction, target), jaccard(target, prediction))
    assert (jaccard(target, target) == 1).all()


def test_jaccard_of_empty_masks():
    empty, full = np.zeros((1, 3, 3), bool), np.ones((1, 3, 3), bool)
    assert jaccard(empty, empty).tolist() == [1.0]
    assert jaccard(empty, full).tolist() == [0.0]
    assert jaccard(full, empty).tolist() == [0.0]
    assert jaccard(empty[:0], empty[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        (np.zeros((2, 3, 3), bool), np.zeros((1, 3, 3), bool)),
        (np.zeros((3, 3), bool), np.zeros((3, 3), bool)),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3), bool)),
    ],
)
def test_jaccard_refuses_what_are_not_two_stacks_of_masks(prediction, target):
    with pytest.raises(MaskError, match="two boolean arrays"):
        jaccard(prediction, target)


sizes = st.tuples(st.integers(1, 14), st.integers(1, 14))
noise = sizes.flatmap(lambda shape: st.tuples(*[npst.arrays(bool, shape)] * 2))
tolerances = st.sampled_from([0.0, 0.008, 0.1, 0.2, 0.35, 2.0])


def slow_contour(mask):
    """Neighbours right, below and diagonal; last row: right only; last column: below only; corner: none."""
    H, W = mask.shape
    points = []
    for y in range(H):
        for x in range(W):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [(v, u) for v, u in neighbours if v < H and u < W]
            if any(mask[y, x] != mask[v, u] for v, u in inside):
                points.append((y, x))
    return points


def slow_f(mask, truth, radius):
    ours, theirs = slow_contour(mask), slow_contour(truth)
    if not ours and not theirs:
        return 1.0

    def fraction(points, others):
        near = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points]
        return sum(near) / len(near) if near else 1.0

    precision, recall = fraction(ours, theirs), fraction(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def discs(seed, size, n=3):
    """A mask made of a few discs, some of them cut by the border."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(n):
        cy, cx = generator.uniform(0, size[0]), generator.uniform(0, size[1])
        mask |= (y - cy) ** 2 + (x - cx) ** 2 < generator.uniform(2, min(size) / 3) ** 2
    return mask


@given(noise, tolerances)
@settings(max_examples=300, deadline=None)
def test_boundary_f_equals_a_loop_over_pairs_of_pixels(pair, tolerance):
    mask, truth = pair
    expected = slow_f(mask, truth, math.ceil(tolerance * math.hypot(*mask.shape)))
    assert boundary_f(mask[None], truth[None], tolerance)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_boundary_f_equals_the_loop_on_blobs(seed):
    mask, truth = discs(seed, (60, 90)), discs(seed + 100, (60, 90))
    for tolerance, radius in [(0.008, 1), (0.03, 4), (0.1, 11)]:
        expected = slow_f(mask, truth, radius)
        assert boundary_f(mask[None], truth[None], tolerance)[0] == pytest.approx(expected, abs=1e-12)


@given(npst.arrays(bool, sizes))
def test_contour_equals_the_loop(mask):
    words = contour(pack_pair(mask, ~mask))  # together they fill the image, so nothing is cut off
    for bits in np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little"):
        assert [(y, x) for y, x in np.argwhere(bits).tolist()] == slow_contour(mask)


@given(noise, tolerances)
@settings(deadline=None)
def test_boundary_f_is_symmetric_bounded_and_one_for_itself(pair, tolerance):
    mask, truth = (side[None] for side in pair)
    value = boundary_f(mask, truth, tolerance)
    assert value[0] == pytest.approx(boundary_f(truth, mask, tolerance)[0], abs=1e-12)
    assert 0 <= value[0] <= 1
    assert boundary_f(truth, truth, tolerance)[0] == 1


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 5))
def test_a_shift_counts_fully_up_to_the_tolerance(dy, dx, seed):
    truth = np.zeros((480, 854), bool)  # tolerance: 8 pixels
    truth[200:300, 300:500] = discs(seed, (100, 200), n=4)
    value = boundary_f(np.roll(truth, (dy, dx), (0, 1))[None], truth[None])[0]
    if dy**2 + dx**2 <= 64:
        assert value == 1


def test_tolerance_is_a_euclidean_disc():
    truth = np.zeros((64, 64), bool)
    truth[32, 32] = True
    points = slow_contour(truth)
    assert len(points) == 4
    for dy in range(-10, 11):
        for dx in range(-10, 11):
            near = [any((y + dy - v) ** 2 + (x + dx - u) ** 2 <= 64 for v, u in points) for y, x in points]
            mask = np.roll(truth, (dy, dx), (0, 1))
            value = boundary_f(mask[None], truth[None], tolerance=0.08)[0]  # 8 pixels
            assert value == pytest.approx(sum(near) / 4)  # by symmetry precision and recall are the same


def test_empty_cases_are_about_contours_not_masks():
    empty, full = np.zeros((1, 20, 20), bool), np.ones((1, 20, 20), bool)
    part = empty.copy()
    part[0, 5:10, 5:10] = True
    assert boundary_f(empty, empty)[0] == 1
    assert boundary_f(full, empty)[0] == 1  # a mask over the whole picture has no contour
    assert boundary_f(part, empty)[0] == 0
    assert boundary_f(empty, part)[0] == 0
    assert boundary_f(part, full)[0] == 0
    assert boundary_f(empty[:0], empty[:0]).shape == (0,)


@pytest.mark.parametrize("left", [0, 1, 62, 63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("right", [129, 130])
def test_objects_that_begin_or_end_with_a_word(left, right):
    mask, truth = np.zeros((12, 130), bool), np.zeros((12, 130), bool)
    mask[2:9, left:right] = truth[0:8, left + 1 : right] = True
    for radius, tolerance in [(0, 0.0), (1, 0.007), (2, 0.01)]:
        expected = slow_f(mask, truth, radius)
        assert boundary_f(mask[None], truth[None], tolerance)[0] == pytest.approx(expected, abs=1e-12)


def test_each_frame_stands_alone():
    masks = np.stack([discs(seed, (40, 50)) for seed in range(5)])
    truths = np.stack([discs(seed + 50, (40, 50)) for seed in range(5)])
    singly = [boundary_f(mask[None], truth[None])[0] for mask, truth in zip(masks, truths, strict=True)]
    assert boundary_f(masks, truths).tolist() == singly


def test_boundary_f_refuses_bad_arguments():
    masks = np.zeros((1, 4, 4), bool)
    with pytest.raises(MaskError, match="two boolean arrays"):
        boundary_f(masks, masks[:, :3])
    with pytest.raises(ConfigError, match="tolerance is -1"):
        boundary_f(masks, masks, tolerance=-1)
