import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vos_umec.errors import ConfigError, MaskError
from vos_umec.metrics.jf import boundary_f, contour, pack_pair

shapes = st.tuples(st.integers(1, 14), st.integers(1, 14))
noise = shapes.flatmap(lambda shape: st.tuples(*[npst.arrays(bool, shape)] * 2))
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

    def share(points, others):
        near = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points]
        return sum(near) / len(near) if near else 1.0

    precision, recall = share(ours, theirs), share(theirs, ours)
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
def test_equals_a_loop_over_pairs_of_pixels(pair, tolerance):
    mask, truth = pair
    expected = slow_f(mask, truth, math.ceil(tolerance * math.hypot(*mask.shape)))
    assert boundary_f(mask[None], truth[None], tolerance)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_loop_on_blobs(seed):
    mask, truth = discs(seed, (60, 90)), discs(seed + 100, (60, 90))
    for tolerance, radius in [(0.008, 1), (0.03, 4), (0.1, 11)]:
        expected = slow_f(mask, truth, radius)
        assert boundary_f(mask[None], truth[None], tolerance)[0] == pytest.approx(expected, abs=1e-12)


@given(npst.arrays(bool, shapes))
def test_contour_equals_the_loop(mask):
    words = contour(pack_pair(mask, ~mask))  # together they fill the image, so nothing is cut off
    for bits in np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little"):
        assert [(y, x) for y, x in np.argwhere(bits).tolist()] == slow_contour(mask)


@given(noise, tolerances)
@settings(deadline=None)
def test_symmetric_bounded_and_one_for_itself(pair, tolerance):
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


def test_refuses_bad_arguments():
    masks = np.zeros((1, 4, 4), bool)
    with pytest.raises(MaskError, match=r"\(1, 4, 4\).*\(1, 3, 4\)"):
        boundary_f(masks, masks[:, :3])
    with pytest.raises(ConfigError, match="tolerance is -1"):
        boundary_f(masks, masks, tolerance=-1)


def test_a_480p_frame_takes_milliseconds():
    masks = np.stack([discs(seed, (480, 854)) for seed in range(5)])
    boundary_f(masks, masks[::-1])
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        boundary_f(masks, masks[::-1])
        best = min(best, time.perf_counter() - start)
    assert best / len(masks) < 0.05  # under 1 ms on one idle core; room for a busy one
