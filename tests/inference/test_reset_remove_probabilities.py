import numpy as np
import pytest
import torch
from segmenter_toys import SIZE, ColorEncoder, iou, scene

from vos_umec.errors import ConfigError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.factory import build_network


@pytest.fixture
def network():
    network = build_network("tiny")
    network.encoder = ColorEncoder()
    return network


@pytest.fixture
def random_network():
    """One whose decoder changes what it is given, and reads embeddings of the masks in memory."""
    torch.manual_seed(0)
    network = build_network({"preset": "tiny", "decoder": {"residual": False}})
    network.encoder = ColorEncoder()
    return network


@pytest.mark.parametrize("rounds", [0, 2])
def test_after_reset_it_is_a_fresh_segmenter(random_network, rounds):
    def segment(segmenter, size, squares):
        frames = [scene({i: (y, x + 4 * t) for i, (y, x) in squares.items()}) for t in range(4)]
        crop = np.s_[: size[0], : size[1]]
        return [segmenter.step(frame[crop], ids[crop] if t == 0 else None) for t, (frame, ids) in enumerate(frames)]

    used, fresh = (VideoSegmenter(random_network, rounds=rounds, references=2) for _ in range(2))
    segment(used, SIZE, {3: (0, 0), 9: (24, 0)})
    used.reset()
    assert (used.ids, len(used.memory)) == ([], 0)
    for found, expected in zip(*(segment(each, (40, 60), {200: (8, 8)}) for each in (used, fresh)), strict=True):
        assert np.array_equal(found, expected)
    assert torch.equal(used.memory.masks, fresh.memory.masks)


def test_in_label_propagation_a_removed_object_leaves_the_others_as_if_it_had_never_been(network):
    both, alone = (VideoSegmenter(network, rounds=0, references=3) for _ in range(2))
    for t in range(8):
        frame, truth = scene({3: (4 * t, 0), 9: (16, 16 + 4 * t)})
        if t == 4:
            both.remove([9])
        found = both.step(frame, truth if t == 0 else None)
        expected = alone.step(frame, truth if t == 0 else None, ids=[3] if t == 0 else None)
        if t >= 4:
            assert np.array_equal(found, expected)
    assert both.ids == [3]
    torch.testing.assert_close(both.memory.masks, alone.memory.masks)


def test_with_rounds_a_removed_object_leaves_the_others_as_memory_has_them(random_network):
    """Later frames are those of a segmenter into whose memory nothing was ever put but the other objects."""
    segmenter, other = (VideoSegmenter(random_network, rounds=2, references=5, bf16=False) for _ in range(2))
    for t in range(4):
        frame, truth = scene({3: (4 * t, 0), 9: (24, 16 + 4 * t), 200: (0, 40)})
        segmenter.step(frame, truth if t == 0 else None, ids=[3, 9] if t == 0 else None)
    segmenter.step(frame, truth, ids=[200])
    for t, row in enumerate((0, 2, 3, 4)):  # frames 1 to 3 lie behind the two with a prompt
        key, masks, values = (getattr(segmenter.memory, name)[row] for name in ("keys", "masks", "values"))
        other.memory.add(key, masks[..., [1]], values[..., [1], :], prompted=[0] if t == 0 else [])
    other.ids = [9]
    segmenter.remove([200, 3])
    assert len(segmenter.memory) == 4  # the frame whose prompt was of 200 alone is gone
    for t in range(4, 7):
        frame, _ = scene({3: (4 * t, 0), 9: (24, 16 + 4 * t)})
        (found, p), (expected, q) = (each.step(frame, return_probabilities=True) for each in (segmenter, other))
        assert np.array_equal(found, expected)
        np.testing.assert_allclose(p, q, atol=1e-5)


def test_all_objects_may_be_removed_new_ones_come_and_unknown_ones_are_named(network):
    segmenter = VideoSegmenter(network, rounds=1)
    frame, truth = scene({3: (0, 0), 9: (24, 0)})
    segmenter.step(frame, truth)
    with pytest.raises(ConfigError, match=r"object 4.*\[3, 9\]"):
        segmenter.remove([3, 4])
    segmenter.remove([9, 3])
    assert not segmenter.step(frame).any()
    frame, truth = scene({200: (8, 8)})
    segmenter.step(frame, truth)
    assert iou(segmenter.step(frame) == 200, truth == 200) > 0.9
    assert segmenter.ids == [200]


@pytest.mark.parametrize("short_side", [None, 40])
@pytest.mark.parametrize("rounds", [0, 2])
def test_probabilities_sum_to_one_and_the_likeliest_is_the_result(random_network, rounds, short_side):
    segmenter = VideoSegmenter(random_network, rounds=rounds, short_side=short_side, references=3)
    again = VideoSegmenter(random_network, rounds=rounds, short_side=short_side, references=3)
    for t in range(5):
        frame, truth = scene({200: (4 * t, 0), 3: (16, 16 + 4 * t)})
        frame, truth = frame[:47, :61], truth[:47, :61]
        mask = {1: np.where(truth == 200, 200, 0), 3: truth}.get(t)
        ids, p = segmenter.step(frame, mask, return_probabilities=True)
        assert (p.dtype, p.shape) == (np.float32, (1 + len(segmenter.ids), 47, 61))
        assert p.min() >= 0
        np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-5)
        assert np.array_equal(np.array([0, *segmenter.ids])[p.argmax(axis=0)], ids)
        assert np.array_equal(ids, again.step(frame, mask))
    assert segmenter.ids == [200, 3]
