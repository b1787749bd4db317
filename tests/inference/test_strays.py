import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.inference.strays import without_strays


def kept_along(places, n, spread):
    """Which of n places are near, from the place of every pixel of an object, by sorting."""
    middle = (len(places) + 1) // 2 - 1  # the lower of two middles
    median = sorted(places)[middle]
    size = sorted(abs(place - median) for place in places)[middle]
    return np.array([abs(place - median) <= spread * (size + 2) for place in range(n)])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.sampled_from([0.5, 1.0, 2.5, 5.0]), st.integers(0, 10_000))
def test_it_is_what_sorting_all_pixels_gives(h, w, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    share = 0.02 + torch.rand(2, 1, 1, generator=generator)
    masks = (torch.rand(2, h, w, generator=generator) < share).float()
    found = without_strays(masks, spread)
    for mask, result in zip(masks.numpy(), found.numpy(), strict=True):
        y, x = mask.nonzero()
        if len(y):
            near = np.outer(kept_along(y, h, spread), kept_along(x, w, spread))
            mask = mask * near
        assert np.array_equal(result, mask)


def test_soft_values_stay_and_what_is_faint_everywhere_is_left_alone():
    masks = torch.rand(2, 20, 20, generator=torch.Generator().manual_seed(0)) * 0.4
    masks[0, 4:9, 4:9] += 0.55
    found = without_strays(masks, spread=2)
    assert torch.equal(found[1], masks[1])
    assert torch.equal(found[0, :11, :11], masks[0, :11, :11])
    assert not found[0, :, 15:].any()


@pytest.mark.parametrize("shape", ["disc", "bar"])
def test_a_disc_and_a_bar_reach_as_far_as_is_said(shape):
    y, x = torch.meshgrid(torch.arange(-100, 101), torch.arange(-100, 101), indexing="ij")
    masks = (x**2 + y**2 < 80**2 if shape == "disc" else x.abs() + 0 * y < 80).float()[None]
    reach = 2.5 if shape == "disc" else 2.05
    assert torch.equal(without_strays(masks, reach), masks)
    assert without_strays(masks, reach * 0.85).sum() < masks.sum()
