import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.color import rgb_to_lab

from vos_umec.transforms.augment import normalize
from vos_umec.transforms.color import from_lab, to_lab

levels = st.lists(st.integers(0, 255), min_size=3, max_size=3)


def cie_lab(rgb):
    """CIE's own definition of one sRGB color in [0, 1], with D65."""
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb])
    matrix = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    ratio = np.array(matrix) @ linear / [0.95047, 1.0, 1.08883]
    x, y, z = (t ** (1 / 3) if t > (6 / 29) ** 3 else t * (29 / 6) ** 2 / 3 + 4 / 29 for t in ratio)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


@settings(max_examples=60, deadline=None)
@given(levels)
def test_equals_cie_s_definition(rgb):
    frame = normalize(torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1))
    found = to_lab(frame).flatten() * torch.tensor([50.0, 127, 127]) + torch.tensor([50.0, 0, 0])
    assert found.tolist() == pytest.approx(cie_lab([c / 255 for c in rgb]), abs=0.05)


def test_equals_kornia():
    frames = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    scale, shift = torch.tensor([[50.0, 127, 127], [50.0, 0, 0]])[:, :, None, None]
    found = to_lab(normalize(frames)) * scale + shift
    torch.testing.assert_close(found, rgb_to_lab(frames / 255), atol=2e-4, rtol=0)


@settings(max_examples=60, deadline=None)
@given(levels, st.sampled_from([0, 1]))
def test_pictures_without_one_color_channel_survive_the_way_there_and_back(rgb, dropped):
    """Any color of 8 bits, as it is and with a or b dropped and the rest half as large again."""
    frame = normalize(torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1)).double()
    lab = to_lab(frame)
    torch.testing.assert_close(from_lab(lab), frame, atol=1e-9, rtol=0)
    altered = lab * 1.5
    altered[1 + dropped] = 0
    seen = from_lab(altered)
    torch.testing.assert_close(to_lab(seen), altered, atol=1e-9, rtol=0)
    assert float(seen.abs().max()) < 8  # no outliers for the network


def test_colors_far_outside_rgb_are_inverted_too():
    frames = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(from_lab(to_lab(frames)), frames, atol=1e-6, rtol=0)


def test_autocast_costs_no_precision_and_types_are_kept():
    frames = torch.rand(1, 3, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(to_lab(frames), to_lab(frames.double()).float(), atol=1e-5, rtol=0)
        torch.testing.assert_close(from_lab(to_lab(frames)), frames, atol=1e-4, rtol=0)
    assert from_lab(to_lab(frames.bfloat16())).dtype == torch.bfloat16
