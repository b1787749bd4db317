"""A whole video from whatever holds its frames, masks in any form, backward, and going on from a state."""

import numpy as np
import pytest
import torch
from PIL import Image
from segmenter_toys import ColorEncoder, iou, scene

from vos_umec.errors import ConfigError, DataError, MaskError, VideoReadError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.inference.video import walk
from vos_umec.io.masks import write_mask
from vos_umec.models.factory import build_network


@pytest.fixture
def segmenter():
    network = build_network("tiny")
    network.encoder = ColorEncoder()
    return VideoSegmenter(network, rounds=0, references=2)


SCENES = [scene({3: (4 * t, 0), 9: (24, 4 * t)}) for t in range(6)]
FRAMES = [frame for frame, _ in SCENES]
TRUTH = SCENES[0][1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(tmp_path / f"frames/{t + 5:05d}.png")
    write_mask(tmp_path / "first.png", TRUTH)
    return tmp_path


MASKS = {
    "array": lambda folder: TRUTH,
    "read-only": lambda folder: np.broadcast_to(TRUTH, TRUTH.shape),
    "int64": lambda folder: TRUTH.astype(np.int64),
    "tensor": lambda folder: torch.from_numpy(TRUTH),
    "1 x H x W": lambda folder: torch.from_numpy(TRUTH)[None].float(),
    "list": lambda folder: TRUTH.tolist(),
    "PIL": lambda folder: Image.open(folder / "first.png"),
    "str": lambda folder: str(folder / "first.png"),
    "Path": lambda folder: folder / "first.png",
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_may_have_any_form(kind, segmenter, folder):
    assert np.array_equal(segmenter.step(FRAMES[0], MASKS[kind](folder)), TRUTH)


@pytest.mark.parametrize("ids", [[3], (3,), {3}, 3, np.array([3]), torch.tensor([3]), np.int64(3), {3: "a"}])
def test_ids_may_be_any_collection(ids, segmenter):
    found = segmenter.step(FRAMES[0], TRUTH, ids=ids)
    assert np.array_equal(found, np.where(TRUTH == 3, 3, 0))
    segmenter.remove(ids)
    assert segmenter.ids == []


@pytest.mark.parametrize("ids", [["3"], "3", [3.5], [None], object()])
def test_ids_that_are_no_numbers_are_refused(ids, segmenter):
    with pytest.raises(ConfigError, match="ids are whole numbers, such as"):
        segmenter.step(FRAMES[0], TRUTH, ids=ids)
    assert segmenter.ids == []


@pytest.mark.parametrize(
    "mask", [object(), {0: TRUTH}, [[1, 2], [3]], np.zeros((4, 5, 6)), np.array([["a"]]), 3, [], "gone.png", b"x"]
)
def test_what_is_no_mask_is_refused_in_one_line(mask, segmenter):
    with pytest.raises(MaskError) as caught:
        segmenter.step(FRAMES[0], mask)
    assert "\n" not in str(caught.value)


SOURCES = {
    "str": lambda folder: str(folder / "frames"),
    "Path": lambda folder: folder / "frames",
    "list": lambda folder: FRAMES,
    "tuple": lambda folder: tuple(FRAMES),
    "array": lambda folder: np.stack(FRAMES),
    "generator": lambda folder: (frame for frame in FRAMES),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_video_may_be_a_path_or_frames(kind, segmenter, folder):
    results = list(segmenter.segment(SOURCES[kind](folder), {0: folder / "first.png"}))
    assert [index for index, _ in results] == list(range(6))
    for (_, truth), (_, ids) in zip(SCENES, results, strict=True):
        assert iou(ids == 3, truth == 3) > 0.9


@pytest.mark.parametrize(
    ("source", "masks", "told"),
    [
        (FRAMES, [TRUTH], "mapping from the frame to its mask.*found list"),
        (FRAMES, TRUTH, "mapping from the frame"),
        (FRAMES, {}, "nothing to follow"),
        (FRAMES, {0: None, 2: None}, "nothing to follow"),
        (FRAMES, {6: TRUTH}, "frame 6; the video has frames 0 to 5"),
        (FRAMES, {True: TRUTH}, "frame True"),
        (FRAMES, {0: TRUTH, "00000": TRUTH}, "two masks are of the same frame"),
        (FRAMES, {0: TRUTH[:8]}, r"mask of frame 0 has shape \(8, 64\)"),
        ([], {0: TRUTH}, "empty"),
        ([1, 2], {0: TRUTH}, "a frame is a numpy array"),
        (3, {0: TRUTH}, "a video is a path.*found int"),
        (None, {0: TRUTH}, "a video is a path.*found NoneType"),
        ("gone.mp4", {0: TRUTH}, "no such file"),
        (iter(FRAMES), {"00000": TRUTH}, "numbered from 0"),
    ],
)
def test_what_cannot_be_segmented_is_told_before_the_first_frame(source, masks, told, segmenter):
    with pytest.raises((ConfigError, MaskError, DataError), match=told):
        segmenter.segment(source, masks)


def test_what_gives_nothing_is_not_silent(segmenter, tmp_path, caplog):
    (tmp_path / "clip.mp4").write_bytes(b"0\n1\n")
    with (tmp_path / "clip.mp4").open("rb") as file, pytest.raises(ConfigError, match="a frame is a numpy array"):
        list(segmenter.segment(file, {0: TRUTH}))
    with pytest.raises(ConfigError, match=r"ids \[3\] .* give the mask"):
        segmenter.step(FRAMES[0], ids=[3])
    assert not any(ids.any() for _, ids in segmenter.segment(FRAMES, {0: np.zeros_like(TRUTH)}))
    assert "no mask shows an object" in caplog.text


def test_frames_that_come_one_by_one_cannot_go_backward_or_end_before_a_mask(segmenter):
    with pytest.raises(ConfigError, match="cannot be read backward"):
        segmenter.segment(iter(FRAMES), {0: TRUTH}, backward=True)
    with pytest.raises(DataError, match="mask for frame 9, and the frames ended after 6"):
        list(segmenter.segment(iter(FRAMES), {0: TRUTH, 9: TRUTH}))


def test_a_frame_may_be_named(segmenter, folder):
    results = dict(segmenter.segment(folder / "frames", {"00007": SCENES[2][1]}))
    assert [ids.any() for ids in results.values()] == [False, False, True, True, True, True]


def test_backward_goes_from_the_first_prompt_to_frame_0_and_then_forward(segmenter):
    prompts = {3: np.where(SCENES[3][1] == 3, 3, 0), 4: np.where(SCENES[4][1] == 9, 9, 0)}
    results = list(segmenter.segment(FRAMES, prompts, backward=True))
    assert [index for index, _ in results] == [2, 1, 0, 3, 4, 5]
    for index, ids in results:
        assert iou(ids == 3, SCENES[index][1] == 3) > 0.9
        assert (ids == 9).any() == (index >= 4)


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_segmenter_goes_on_from_the_state_of_another(rounds):
    torch.manual_seed(0)
    network = build_network("tiny")
    network.encoder = ColorEncoder()
    settings = {"rounds": rounds, "references": 2, "readout": {"coarse_to_fine": 3}}
    first, second = (VideoSegmenter(network, **settings) for _ in range(2))
    prompts = {0: TRUTH, 2: np.where(SCENES[2][1] == 9, 9, 0)}
    for t in range(5):
        second.restore(first.state())
        expected, _ = first.step(FRAMES[t], prompts.get(t), return_probabilities=True)
        assert np.array_equal(second.step(FRAMES[t], prompts.get(t)), expected)
        assert second.ids == first.ids
    state = first.state()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    first.step(FRAMES[5])
    assert all(torch.equal(state[name], kept[name]) for name in state)  # a copy, not a view


def test_the_frames_before_a_broken_one_come_all_the_same(segmenter):
    class Source:
        size, names, fps = FRAMES[0].shape[:2], [str(t) for t in range(6)], 24
        path = "clip"

        def __len__(self):
            return 6

        def read(self, indices, size=None):
            if 3 in indices:
                raise VideoReadError("clip", "frame 3 is broken")
            return np.stack([FRAMES[i] for i in indices])

    steps = walk(segmenter, Source(), {0: TRUTH}, batch=4)
    came = [next(steps)[0] for _ in range(3)]
    assert came == [0, 1, 2]
    with pytest.raises(VideoReadError, match="frame 3"):
        next(steps)
