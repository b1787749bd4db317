from typing import ClassVar

import numpy as np
import pytest
import torch
from segmenter_toys import COLORS, SIZE, ColorEncoder, iou, scene

from vos_umec import UMECModule
from vos_umec.errors import ConfigError, MaskError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.factory import build_network


@pytest.fixture
def network():
    network = build_network("tiny")
    network.encoder = ColorEncoder()
    return network


@pytest.mark.parametrize(
    "settings",
    [
        {"rounds": 0},
        {"rounds": 2},
        {"rounds": 2, "crop_margin": 2},
        {"rounds": 2, "bf16": False},
        {"rounds": 0, "search_margin": 2},
    ],
)
def test_moving_squares_are_followed_and_keep_the_callers_ids(network, settings):
    segmenter = VideoSegmenter(network, references=4, **settings)
    for t in range(8):
        frame, truth = scene({3: (4 * t, 0), 200: (16, 16 + 4 * t)})
        result = segmenter.step(frame, truth if t == 0 else None)
        assert result.dtype == np.uint8
        assert set(np.unique(result)) <= {0, 3, 200}
        for i in (3, 200):
            assert iou(result == i, truth == i) > 0.9
    assert segmenter.ids == [3, 200]


def test_a_search_near_the_objects_finds_one_that_returns_elsewhere(network):
    segmenter = VideoSegmenter(network, rounds=0, references=3, search_margin=1)
    segmenter.step(*scene({3: (0, 0), 9: (24, 0)}))
    gone = segmenter.step(scene({9: (24, 0)})[0])
    assert not (gone == 3).any()
    frame, truth = scene({3: (32, 44), 9: (24, 0)})
    returned = segmenter.step(frame)
    for i in (3, 9):
        assert iou(returned == i, truth == i) > 0.9


def test_an_object_may_appear_on_any_frame_and_zero_says_nothing(network):
    segmenter = VideoSegmenter(network, rounds=0, references=2)
    for t in range(7):
        frame, truth = scene({3: (0, 4 * t), 9: (24, 4 * t)})
        given = None
        if t == 0:
            given = np.where(truth == 3, truth, 0)
        if t == 3:
            given = np.where(truth == 9, truth, 0)  # 0 where object 3 is: nothing said of it
        result = segmenter.step(frame, given)
        assert iou(result == 3, truth == 3) > 0.9
        if t >= 3:
            assert iou(result == 9, truth == 9) > 0.9
        else:
            assert not (result == 9).any()
    assert segmenter.memory.permanent == 2
    assert len(segmenter.memory) == 4


def test_a_prompt_replaces_only_the_objects_it_names(network):
    segmenter = VideoSegmenter(network, rounds=0)
    frame, truth = scene({3: (0, 0), 9: (24, 0)})
    segmenter.step(frame, truth)
    gone = segmenter.step(frame, np.zeros(SIZE, np.uint8), ids=[3])
    assert not (gone == 3).any()
    assert iou(gone == 9, truth == 9) > 0.9


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_second_prompt_replaces_earlier_memory(network, rounds):
    """The first prompt shows half of the object; many frames remember that when the second one shows all of it."""
    segmenter = VideoSegmenter(network, rounds=rounds, references=5, readout={"top_k": 5})
    frame, truth = scene({3: (0, 0), 9: (24, 0)})
    half = np.where((truth == 3) & (np.arange(SIZE[1]) >= 8), 0, truth)
    segmenter.step(frame, half)
    for _ in range(6):
        before = segmenter.step(frame)
    segmenter.step(frame, np.where(truth == 3, truth, 0))
    known = segmenter.memory.known
    assert known[:, 0].tolist() == [False, True] + [False] * 5
    assert known[:, 1].all()
    after = segmenter.step(frame)
    if rounds == 0:  # D here is untrained
        assert iou(before == 3, truth == 3) < 0.9
        assert iou(after == 3, truth == 3) > 0.95
        assert np.array_equal(after == 9, before == 9)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.full(SIZE, 255), "0 and 255.*mask > 0"),
        (np.full(SIZE, 0.7), r"mask > 0\.5"),
    ],
)
def test_a_mask_that_can_hardly_be_ids_is_refused(network, mask, words):
    with pytest.raises(MaskError, match=words):
        VideoSegmenter(network, rounds=0).step(scene({})[0], mask)


@pytest.mark.parametrize(
    "frame",
    [np.zeros(SIZE, np.uint8), np.zeros((*SIZE, 3)), torch.zeros(3, 8, 8), "a.png", np.zeros((0, 0, 3), np.uint8)],
)
def test_what_is_no_frame_is_refused(network, frame):
    with pytest.raises(ConfigError, match=r"a frame is a numpy array \(H, W, 3\) uint8, RGB; found \w+"):
        VideoSegmenter(network, rounds=0).step(frame)


def test_a_module_is_no_network():
    with pytest.raises(ConfigError, match=r"UMECModule.*`\.network`"):
        VideoSegmenter(UMECModule(network="tiny"))


def test_segment_wants_a_fresh_segmenter_and_masks_of_frames_there_are(network):
    frame, truth = scene({3: (8, 8)})

    class Twice:
        def __len__(self):
            return 2

        def read(self, indices):
            return [frame for _ in indices]

    for index in (2, "0", -1):
        with pytest.raises(ConfigError, match=rf"frame {index!r}.* 0 to 1"):
            next(VideoSegmenter(network, rounds=0).segment(Twice(), {index: truth}))
    segmenter = VideoSegmenter(network, rounds=0)
    assert len(list(segmenter.segment(Twice(), {0: truth}))) == 2
    with pytest.raises(ConfigError, match=r"reset\(\)"):
        next(segmenter.segment(Twice(), {0: truth}))


def test_a_prompt_comes_back_to_the_pixel_and_255_says_nothing(network):
    frame, truth = scene({3: (1, 1)})
    truth[5:9, 40:44] = 255
    result = VideoSegmenter(network, rounds=0).step(frame, truth)
    assert np.array_equal(result, np.where(truth == 255, 0, truth))


def test_odd_sizes_and_a_smaller_working_size_give_masks_at_the_videos_own_size(network):
    frame, truth = scene({3: (8, 8)})
    frame, truth = frame[:47, :61], truth[:47, :61]
    for short_side in (None, 24):
        segmenter = VideoSegmenter(network, rounds=0, short_side=short_side)
        segmenter.step(frame, truth)
        result = segmenter.step(frame)
        assert result.shape == (47, 61)
        assert iou(result == 3, truth == 3) > 0.8


@pytest.mark.parametrize("sampling", ["area", "bilinear", "aligned", "nearest"])
@pytest.mark.parametrize("fit", ["pad", 8, 12])
@pytest.mark.parametrize("short_side", [None, 44])
def test_however_sizes_are_met_masks_have_the_videos_own(network, fit, sampling, short_side):
    segmenter = VideoSegmenter(
        network, 0, readout={"radius": 4}, short_side=short_side, fit=fit, mask_sampling=sampling
    )
    for t in range(3):
        frame, truth = (x[:47, :61] for x in scene({3: (8, 8 + 4 * t), 200: (28, 40)}))
        ids, p = segmenter.step(frame, truth if t == 0 else None, return_probabilities=True)
        assert ids.shape == (47, 61)
        assert p.shape == (3, 47, 61)
        np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-5)
        assert iou(ids == 3, truth == 3) > 0.7
        assert iou(ids == 200, truth == 200) > 0.7


@pytest.mark.parametrize("size", [(45, 61), (46, 63), (48, 64)])
def test_an_object_that_touches_the_border_is_whole_in_memory(network, size):
    # Frames are padded to whole cells; a mask that were not padded alike would deny what the padding shows.
    frame, truth = scene({3: (32, 48)})
    frame, truth = frame[: size[0], : size[1]], truth[: size[0], : size[1]]
    segmenter = VideoSegmenter(network, rounds=0)
    segmenter.step(frame, truth)
    assert torch.equal(segmenter.memory.masks[0, 8:, 12:, 0], torch.ones(4, 4))
    assert (segmenter.step(frame)[36:, 52:] == 3).all()


def test_a_refused_frame_leaves_nothing_behind(network):
    frame, truth = scene({3: (8, 8)})
    segmenter = VideoSegmenter(network, rounds=0)
    for wrong in (frame.astype(np.float32), np.dstack([frame, frame[..., :1]]), frame[:20]):
        with pytest.raises((ConfigError, MaskError)):
            segmenter.step(wrong, truth)
    assert np.array_equal(segmenter.step(frame, truth), truth)
    assert (segmenter.ids, segmenter.memory.permanent) == ([3], 1)


@pytest.mark.filterwarnings("error")
def test_frames_may_be_read_only_and_reversed(network):
    frame, ids = scene({3: (8, 8)})
    locked = frame.copy()
    locked.setflags(write=False)
    results = [VideoSegmenter(network).step(each, ids) for each in (frame, locked, frame[::-1])]
    assert all((result == ids).all() for result in results)


def test_memory_does_not_grow_with_the_video(network):
    segmenter = VideoSegmenter(network, rounds=1, references=3)
    frame, truth = scene({3: (8, 8)})
    segmenter.step(frame, truth)
    for _ in range(9):
        segmenter.step(frame)
    assert len(segmenter.memory) == 4
    assert segmenter.memory.values.shape == (4, 12, 16, 1, 48)


def test_before_the_first_mask_there_is_nothing(network):
    frame, _ = scene({})
    segmenter = VideoSegmenter(network)
    assert not segmenter.step(frame).any()
    assert len(segmenter.memory) == 0


def test_segment_yields_frame_by_frame_and_reads_one_batch_ahead(network):
    frames = np.stack([scene({3: (4 * t, 0)})[0] for t in range(5)])

    class Source:
        reads: ClassVar[list] = []

        def __len__(self):
            return len(frames)

        def read(self, indices, size=None):
            self.reads.append(list(indices))
            return frames[list(indices)]

    results = VideoSegmenter(network, rounds=0).segment(Source(), {1: scene({3: (4, 0)})[1]}, batch=2)
    first, ids = next(results)
    assert (first, ids.any(), Source.reads[0]) == (0, False, [0, 1])
    assert len(Source.reads) <= 2
    assert [i for i, _ in results] == [1, 2, 3, 4]
    assert Source.reads == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"readout": {"top_k": 0}}, "top_k must be 1 or more"),
        ({"readout": {"top_k": None}}, "top_k"),
        ({"readout": {"topk": 3}}, "topk.*top_k, radius, permanent_radius, tau"),
        ({"memory_masks": "coars"}, "memory_masks.*'coars'"),
        ({"max_extent": 0}, "max_extent"),
        ({"crop_margin": -1}, "crop_margin.*-1"),
        ({"references": -1}, "references.*-1"),
        ({"short_side": 0}, "short_side.*found 0"),
        ({"short_side": "480p"}, "short_side.*found '480p'"),
        ({"fit": 3}, "a multiple of the stride 4; found 3"),
        ({"fit": 14}, "a multiple of the stride 4; found 14"),
        ({"fit": "crop"}, "fit must be 'pad', 'native' or a number"),
        ({"fit": "native"}, "whole cells; give fit='pad', or rounds=0"),
        ({"mask_sampling": "linear"}, "one of area, bilinear, aligned, nearest; found 'linear'"),
        ({"readout": {"window": "round"}}, "window must be 'disc' or 'square'; found 'round'"),
    ],
)
def test_a_wrong_setting_is_named(network, settings, words):
    with pytest.raises(ConfigError, match=words):
        VideoSegmenter(network, **settings)


def test_wrong_input_says_what_is_wrong(network):
    frame, truth = scene({3: (8, 8)})
    segmenter = VideoSegmenter(network, rounds=0, fit="native")
    with pytest.raises(
        ConfigError, match=r"11 x 15 cells where a frame of 47 x 61 pixels has 12 x 16; give fit='pad'"
    ):
        segmenter.step(frame[:47, :61], truth[:47, :61])
    assert segmenter.ids == []  # it leaves no trace
    with pytest.raises(MaskError, match=r"\(20, 64\).*\(48, 64\)"):
        VideoSegmenter(network).step(frame, truth[:20])
    with pytest.raises(MaskError, match=r"1 to 254.*300"):
        VideoSegmenter(network).step(frame, truth.astype(np.int64) * 100)
    for no_id in (0, 255):
        with pytest.raises(MaskError, match=f"1 to 254; found {no_id} to {no_id}"):
            VideoSegmenter(network).step(frame, truth, ids=[no_id])
    segmenter = VideoSegmenter(network, rounds=0)
    segmenter.step(frame, truth)
    with pytest.raises(ConfigError, match=r"reset\(\).* another video"):
        segmenter.step(frame[:20])


def test_of_a_mask_that_shows_more_only_the_named_objects_are_taken(network):
    """An object that is not named is propagated, whatever the mask shows of it."""
    segmenter = VideoSegmenter(network, rounds=0)
    frame, truth = scene({3: (0, 0)})
    segmenter.step(frame, truth)
    frame, truth = scene({3: (4, 0), 9: (16, 32)})
    wrong = np.where(truth == 3, 0, truth)
    wrong[32:, :16] = 3  # where 3 is not
    result = segmenter.step(frame, wrong, ids=[9])
    assert iou(result == 9, truth == 9) > 0.9
    assert iou(result == 3, truth == 3) > 0.8
    frame, truth = scene({3: (8, 0), 9: (16, 32)})
    assert iou(segmenter.step(frame) == 3, truth == 3) > 0.8


def test_coarse_masks_may_be_remembered_in_place_of_the_refined_ones():
    """What is in memory after a frame is then what label propagation has there, whatever the decoder made of it."""
    torch.manual_seed(0)
    network = build_network({"preset": "tiny", "decoder": {"residual": False}})
    network.encoder = ColorEncoder()
    plain = VideoSegmenter(network, rounds=0, bf16=False)
    coarse = VideoSegmenter(network, rounds=1, bf16=False, memory_masks="coarse")
    vote = VideoSegmenter(network, rounds=1, bf16=False, memory_masks="coarse_vote")
    refined = VideoSegmenter(network, rounds=1, bf16=False)
    for t in range(3):
        frame, truth = scene({3: (4 * t, 0)})
        for segmenter in (plain, coarse, vote, refined):
            segmenter.step(frame, truth if t == 0 else None)
        torch.testing.assert_close(coarse.memory.masks, plain.memory.masks)
        torch.testing.assert_close(vote.memory.masks, plain.memory.masks)
    assert not torch.allclose(refined.memory.masks, plain.memory.masks)
    assert not torch.allclose(vote.memory.values, coarse.memory.values)  # V is given the refined masks


@pytest.mark.parametrize("rounds", [0, 2])
def test_with_max_extent_a_distractor_far_off_is_no_part_of_the_object(network, rounds):
    plain, together = (VideoSegmenter(network, rounds=rounds, max_extent=extent) for extent in (None, 3))
    for t in range(4):
        frame, truth = scene({3: (16 + 4 * t, 0)})
        if t:
            frame[:8, 56:] = COLORS[3]
        given = None if t else truth
        taken, left = plain.step(frame, given), together.step(frame, given)
        assert iou(left == 3, truth == 3) > 0.9
        assert (taken[:8, 56:] == 3).any() == (t > 0)
        assert not (left[:8, 56:] == 3).any()


def test_a_late_prompt_does_not_make_another_object_likelier_for_v(network):
    """V is given logits with blend_coarse: where the prompt lies, those of other objects must not rise."""
    frame, truth = scene({3: (8, 8)})
    segmenter = VideoSegmenter.from_protocol(network, "umec_code")
    segmenter.ids = [3, 5]
    mask = np.where(truth == 3, 5, 0).astype(np.uint8)
    given = torch.full((2, *frame.shape[:2]), -8.0)
    p, vote = torch.zeros_like(given), torch.zeros(2, frame.shape[0] // 4, frame.shape[1] // 4)
    _, given, _ = segmenter._overwrite(mask, [1], p, given, vote)
    assert (given[0] == -8).all()
    assert (given[1] == torch.from_numpy(mask == 5)).all()
