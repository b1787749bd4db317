import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.inference.postprocess import remove_outliers


def kept_along(places, n, max_extent):
    """Which of n places are near, from the place of every pixel of an object, by sorting."""
    middle = (len(places) + 1) // 2 - 1  # the lower of two middles
    median = sorted(places)[middle]
    size = sorted(abs(place - median) for place in places)[middle]
    return np.array([abs(place - median) <= max_extent * (size + 2) for place in range(n)])


def flooded(mask, start):
    """The pixels of a mask that are joined to its pixels in `start`, over edges and corners."""
    reached, edge = set(), list(zip(*(mask * start).nonzero(), strict=True))
    while edge:
        y, x = edge.pop()
        if (y, x) not in reached and 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]:
            reached.add((y, x))
            edge += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    kept = np.zeros_like(mask)
    for place in reached:
        kept[place] = 1
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.sampled_from([0.5, 1.0, 2.5, 5.0]), st.integers(0, 10_000))
def test_it_is_what_sorting_and_flooding_pixel_by_pixel_gives(h, w, max_extent, seed):
    generator = torch.Generator().manual_seed(seed)
    density = 0.02 + torch.rand(2, 1, 1, generator=generator)
    masks = (torch.rand(2, h, w, generator=generator) < density).float()
    permanent = torch.rand(2, h, w, generator=generator)
    found = remove_outliers(masks, max_extent, permanent)
    for mask, alike, result in zip(masks.numpy(), permanent.numpy() > 0.5, found.numpy(), strict=True):
        y, x = mask.nonzero()
        if len(y):
            near = np.outer(kept_along(y, h, max_extent), kept_along(x, w, max_extent))
            mask = flooded(mask, near) * (near | alike)
        assert np.array_equal(result, mask)


def test_soft_values_stay_and_what_is_faint_everywhere_is_left_alone():
    masks = torch.rand(2, 20, 20, generator=torch.Generator().manual_seed(0)) * 0.4
    masks[0, 4:9, 4:9] += 0.55
    found = remove_outliers(masks, max_extent=2, permanent=torch.ones_like(masks))
    assert torch.equal(found[1], masks[1])
    assert torch.equal(found[0, :11, :11], masks[0, :11, :11])
    assert not found[0, :, 15:].any()


def test_a_long_neck_stays_and_neither_a_strip_of_the_ground_nor_an_outlier_that_looks_alike():
    masks = torch.zeros(1, 60, 120)
    masks[0, 40:56, 10:40] = 1  # the body
    masks[0, 45:47, 40:110] = 1  # the neck
    permanent = masks.clone()
    masks[0, 54:56, 40:110] = 1  # the strip, joined to the body as the neck is
    masks[0, :4, 112:] = 1  # the outlier
    permanent[0, :4, 112:] = 1
    kept = remove_outliers(masks, max_extent=2, permanent=permanent)[0]
    assert kept[45:47].sum() == 2 * 100
    assert not kept[54:56, 80:].any()
    assert not kept[:4].any()


@pytest.mark.parametrize("shape", ["disc", "bar"])
def test_a_disc_and_a_bar_reach_as_far_as_is_said(shape):
    y, x = torch.meshgrid(torch.arange(-100, 101), torch.arange(-100, 101), indexing="ij")
    masks = (x**2 + y**2 < 80**2 if shape == "disc" else x.abs() + 0 * y < 80).float()[None]
    reach = 2.5 if shape == "disc" else 2.05
    masks[0, :, 176:178] = 0  # its end is cut off, and so not joined to the rest
    assert torch.equal(remove_outliers(masks, reach, masks), masks)
    assert remove_outliers(masks, reach * 0.85, masks).sum() < masks.sum()
