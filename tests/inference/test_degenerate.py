"""Videos and objects at the edge of what there is: results are defined, and nowhere NaN."""

import numpy as np
import pytest
import torch

from vos_umec.errors import MaskError
from vos_umec.inference.load import load_segmenter
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.masks import read_mask
from vos_umec.matching.topk import top_k_affinity
from vos_umec.models.factory import build_network

SIZES = [(1, 1), (4, 4), (1, 16), (16, 1), (33, 47)]
SETTINGS = [
    {"rounds": 0, "stretch_masks": True},
    {"rounds": 1, "max_extent": 4, "readout": {"coarse_to_fine": 3}, "search_margin": 1},
    {"rounds": 1, "short_side": 24, "crop_margin": None},
]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("tiny")


def follow(segmenter, frames, mask, ids=None):
    """The results of all frames, whose probabilities are numbers that sum to 1."""
    found = []
    for t, frame in enumerate(frames):
        given = {"mask": mask, "ids": ids} if t == 0 else {}
        result, p = segmenter.step(frame, return_probabilities=True, **given)
        assert result.shape == p.shape[1:] == frame.shape[:2]
        assert np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-4)
        found.append(result)
    return found


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0, 255, None])
def test_tiny_and_one_colored_videos(network, settings, size, value):
    noise = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    frames = noise if value is None else np.full_like(noise, value)
    mask = np.zeros(size, np.uint8)
    mask[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = 5
    results = follow(VideoSegmenter(network, references=2, **settings), frames, mask)
    assert np.array_equal(results[0], mask)
    assert all(set(np.unique(result)) <= {0, 5} for result in results)


@pytest.mark.parametrize("settings", SETTINGS)
def test_an_object_that_is_nowhere_stays_nowhere(network, settings):
    """It is named and not in the mask; the other one leaves the frame, which its memory still knows."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), dtype=np.uint8)
    mask = np.zeros((32, 48), np.uint8)
    mask[8:20, 8:20] = 2
    for result in follow(VideoSegmenter(network, references=2, **settings), frames, mask, ids=[2, 9]):
        assert not (result == 9).any()
    nothing = follow(VideoSegmenter(network, references=2, **settings), frames, np.zeros_like(mask), ids=[9])
    assert not np.any(nothing)


def test_a_row_of_the_affinity_without_a_cell_reads_nothing():
    key = torch.zeros(3, 4, 5)
    key[..., 0] = 1
    keys = key[None].clone()
    keys[..., 0] = -torch.inf  # no cell can be chosen
    best = top_k_affinity(key, keys, permanent=1, top_k=2)
    assert (best.weight == 0).all()
    assert (best.permanent.weight == 0).all()


@pytest.mark.slow
def test_bf16_and_fp32_give_the_same_masks_of_a_real_clip(real_data):
    folder = real_data / "davis_select"
    images = sorted((folder / "JPEGImages/480p/soapbox").iterdir())[:6]
    mask = read_mask(folder / "Annotations/480p/soapbox" / f"{images[0].stem}.png")
    from vos_umec.io.folder import FolderSource

    frames = FolderSource(images[0].parent).read(range(len(images)))
    runs = []
    for bf16 in (True, False):
        segmenter = load_segmenter(bf16=bf16, short_side=128)
        runs.append(np.stack([segmenter.step(frame, None if t else mask) for t, frame in enumerate(frames)]))
    assert runs[1][-1].any()
    assert (runs[0] == runs[1]).mean() >= 0.995


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_mask_of_no_numbers_is_one_clear_error(network, value):
    mask = np.zeros((32, 48), np.float32)
    mask[3, 4] = value
    with pytest.raises(MaskError, match="no numbers"):
        VideoSegmenter(network).step(np.zeros((32, 48, 3), np.uint8), mask)
