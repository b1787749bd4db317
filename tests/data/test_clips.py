import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from vos_umec.constants import IGNORE
from vos_umec.data.clips import ClipDataset, ClipSampler, clip_loader, clip_positions, default_workers
from vos_umec.data.index import VideoIndex, scan
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.frames import resized
from vos_umec.io.video_writer import VideoWriter

FrameFolder = Callable[..., Path]


@pytest.fixture
def index(tmp_path: Path, frame_folder: FrameFolder) -> VideoIndex:
    """Three videos of 20 x 30 pixels and 12 frames; see `frame_folder` for what is in the pixels."""
    for number in range(3):
        frame_folder(tmp_path / "videos" / f"v{number}", frames=12, first=50 * number)
    return scan(tmp_path / "videos")


def dataset(index: VideoIndex, **options: Any) -> ClipDataset:
    return ClipDataset(index, **{"clip_length": 4, "gap": 2, "short_side": 20, **options})


def commit_generation(store: PseudoMaskStore, index: VideoIndex, generation: int, frames: list[int]) -> None:
    """Segments at half the videos' resolution, whose value says where they are."""
    store.begin(generation)
    rows, columns = np.indices((10, 15))
    for video in index:
        maps = [(t + 16 * (rows % 4) + 64 * (columns % 3)).astype(np.uint8) for t in frames]
        store.write(generation, video.id, np.array(frames), np.stack(maps))
    store.commit(generation, {})
    store.reload()


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 9), st.integers(0, 99))
def test_positions_keep_their_gap_where_they_can(frames: int, length: int, gap: int, seed: int) -> None:
    positions = clip_positions(frames, length, gap, np.random.default_rng(seed))
    assert positions.shape == (length,)
    assert positions.dtype == np.int64
    assert positions.min() >= 0
    assert positions.max() < frames
    steps = np.diff(positions)
    if frames > (length - 1) * gap:
        assert (steps == gap).all()
    elif frames >= length:
        assert (steps == steps[0]).all(), "one gap for the whole clip"
        assert (length - 1) * (steps[0] + 1) > frames - 1, "the largest that fits"
    elif frames > 1:
        assert (np.abs(steps) == 1).all(), "to and fro"


@given(
    frames=st.integers(1, 150),
    length=st.integers(1, 8),
    gap=st.integers(1, 4),
    run_length=st.integers(1, 9),
    low=st.integers(1, 20),
    more=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_runs_keep_their_distances_where_they_can(
    frames: int, length: int, gap: int, run_length: int, low: int, more: int, seed: int
) -> None:
    high = low + more
    positions = clip_positions(frames, length, gap, np.random.default_rng(seed), run_length, (low, high))
    assert positions.shape == (length,)
    assert positions.dtype == np.int64
    assert 0 <= positions.min() <= positions.max() < frames
    steps = np.diff(positions).tolist()
    inner = [step for place, step in enumerate(steps, start=1) if place % run_length]
    between = [step for place, step in enumerate(steps, start=1) if place % run_length == 0]
    if frames < length:
        return  # to and fro, as without runs
    assert len(set(inner)) <= 1
    assert all(1 <= step <= gap for step in inner)
    assert all(1 <= step <= high for step in between)
    if len(inner) * gap + len(between) * high < frames:
        assert all(step == gap for step in inner)
        assert all(low <= step for step in between)
    elif between:  # what fits: with the largest distances there would be no room
        used = inner[0] if inner else gap
        assert used == gap or frames <= (length - 1) * (used + 1)
        room = frames - 1 - len(inner) * used
        assert all(step >= min(low, room // len(between)) for step in between)


def test_every_distance_between_runs_is_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = [np.diff(clip_positions(200, 5, 1, rng, run_length=3, run_gap=(10, 12))) for _ in range(600)]
    assert all(steps[[0, 1, 3]].tolist() == [1, 1, 1] for steps in drawn)
    assert np.bincount([steps[2] for steps in drawn])[10:].min() > 150


def test_every_start_is_drawn() -> None:
    rng = np.random.default_rng(0)
    starts = [int(clip_positions(10, 4, 2, rng)[0]) for _ in range(400)]
    assert np.bincount(starts, minlength=4).min() > 60
    assert len(set(starts)) == 4


def test_a_clip_shows_the_frames_it_names_in_one_square(index: VideoIndex) -> None:
    clip = dataset(index)[1]
    frames = clip["frames"]
    assert frames.shape == (4, 3, 20, 20)
    assert frames.dtype == torch.uint8
    assert frames.is_contiguous()
    assert clip["video"] == "v1"
    assert clip["generation"] == 0
    assert "segments" not in clip
    assert clip["frame_indices"].diff().tolist() == [2, 2, 2]
    left = int(frames[0, 2, 0, 0])
    assert 0 <= left <= 10
    for t, number in enumerate(clip["frame_indices"]):
        assert frames[t, 0].unique().tolist() == [50 + number]
        assert torch.equal(frames[t, 1], torch.arange(20, dtype=torch.uint8)[:, None].expand(20, 20))
        assert torch.equal(frames[t, 2], torch.arange(left, left + 20, dtype=torch.uint8).expand(20, 20))


def test_frame_indices_count_frames_that_were_left_out(tmp_path: Path, frame_folder: FrameFolder) -> None:
    """Frames 00000, 00005, ...: the long term of the equivariance objective asks for a distance in raw frames."""
    frame_folder(tmp_path / "003234408d", frames=9, step=5)
    clip = dataset(scan(tmp_path))[0]
    assert clip["frame_indices"].diff().tolist() == [10, 10, 10]
    assert clip["frames"][:, 0, 0, 0].diff().tolist() == [2, 2, 2]


RUNS = {"clip_length": 5, "gap": 1, "run_length": 3, "run_gap": (10, 40), "clips_per_video": 30}


@pytest.mark.parametrize("step", [1, 5])
def test_runs_are_10_to_40_frames_of_the_video_apart_whatever_frames_exist(
    tmp_path: Path, frame_folder: FrameFolder, step: int
) -> None:
    frame_folder(tmp_path / "003234408d", frames=60 if step == 1 else 30, step=step)
    clips = dataset(scan(tmp_path), **RUNS)
    steps = torch.stack([clips[number]["frame_indices"].diff() for number in range(len(clips))])  # (30, 4)
    assert (steps[:, [0, 1, 3]] == step).all()
    assert (steps[:, 2] >= 10).all()
    assert (steps[:, 2] <= 40).all()
    assert len(steps[:, 2].unique()) > 5


def test_clips_of_runs_are_drawn_from_the_frames_that_have_segments(
    tmp_path: Path, frame_folder: FrameFolder
) -> None:
    frame_folder(tmp_path / "videos" / "a", frames=100)
    index, store = scan(tmp_path / "videos"), PseudoMaskStore(tmp_path / "store")
    for generation, spacing in ((1, 1), (2, 2)):
        window = list(range(20, 20 + 24 * spacing, spacing))
        commit_generation(store, index, generation, frames=window)
        clips = dataset(index, store=store, **RUNS)
        for number in range(len(clips)):
            numbers = clips[number]["frame_indices"]
            assert set(numbers.tolist()) <= set(window)
            steps = numbers.diff().tolist()
            assert [steps[0], steps[1], steps[3]] == [spacing] * 3, "the nearest frames with segments"
            assert 10 <= steps[2] <= (20 if spacing == 1 else 40), "what fits a window of 24 frames"


@pytest.mark.parametrize(("fps", "steps"), [(None, [2, 2, 2]), (5.0, [4, 4, 4]), (25.0, [1, 1, 1])])
def test_distances_in_time(tmp_path: Path, fps: float | None, steps: list[int]) -> None:
    with VideoWriter(tmp_path / "clip.mp4", fps=10) as writer:
        for t in range(20):
            writer.write(np.full((32, 48, 3), 10 * t, np.uint8))
    assert dataset(scan(tmp_path), fps=fps)[0]["frame_indices"].diff().tolist() == steps
    runs = dataset(scan(tmp_path), gap=1, run_length=2, run_gap=(4, 4), fps=fps)[0]["frame_indices"].diff().tolist()
    assert runs == {None: [1, 4, 1], 5.0: [2, 8, 2], 25.0: [1, 2, 1]}[fps]


def test_distances_in_time_need_a_frame_rate(index: VideoIndex) -> None:
    with pytest.raises(ConfigError, match=r"fps is 30, and 3 of 3 videos .*first v0.*vos-umec prepare"):
        dataset(index, fps=30.0)
    with pytest.raises(ConfigError, match=r"fps is 0\.0; expected a frame rate above 0"):
        dataset(index, fps=0.0)


def test_other_sizes(index: VideoIndex) -> None:
    assert dataset(index, short_side=40)[0]["frames"].shape == (4, 3, 40, 40)
    assert dataset(index, short_side=13)[0]["frames"].shape == (4, 3, 13, 13)


def test_a_clip_depends_on_seed_epoch_and_number_alone(index: VideoIndex) -> None:
    def draw(seed: int, epoch: int) -> list[tuple[int, int]]:
        clips = dataset(index, seed=seed, clips_per_video=20)
        drawn = [clips[epoch, number] for number in range(len(clips))]
        return [(int(clip["frame_indices"][0]), int(clip["frames"][0, 2, 0, 0])) for clip in drawn]

    once = draw(0, 0)
    assert once == draw(0, 0)
    assert once != draw(0, 1)
    assert once != draw(1, 0)
    assert len(set(once)) > 20, "clips of one video differ, too"


def test_an_epoch_has_every_video_as_often_as_asked(index: VideoIndex) -> None:
    clips = dataset(index, clips_per_video=2)
    videos = [clips[number]["video"] for number in range(len(clips))]
    assert sorted(videos) == ["v0", "v0", "v1", "v1", "v2", "v2"]
    with pytest.raises(IndexError):
        clips[6]


def test_before_the_first_generation_nothing_is_known(index: VideoIndex, tmp_path: Path) -> None:
    clip = dataset(index, store=PseudoMaskStore(tmp_path / "store"))[0]
    assert clip["segments"].shape == (4, 20, 20)
    assert clip["segments"].dtype == torch.uint8
    assert (clip["segments"] == IGNORE).all()


@pytest.mark.parametrize("scale", [1, 2])
def test_segments_lie_on_their_pixels(index: VideoIndex, tmp_path: Path, scale: int) -> None:
    store = PseudoMaskStore(tmp_path / "store")
    commit_generation(store, index, 1, frames=[1, 4, 5, 7, 8, 11])
    side = 20 * scale
    clips = dataset(index, store=store, short_side=side, clips_per_video=5)
    starts, lefts = set(), set()
    for number in range(len(clips)):
        clip = clips[number]
        numbers = clip["frame_indices"].tolist()
        assert numbers in ([1, 4, 5, 7], [4, 5, 7, 8], [5, 7, 8, 11]), "a window of the stored frames"
        assert clip["generation"] == 1
        # Blue is the column at the original size: it tells where the square begins.
        blue = clip["frames"][0, 2, 0, 4:-4].double()
        left = round(float(((blue + 0.5) * scale - 0.5 - torch.arange(4, side - 4)).mean()))
        # A segment covers 2 x 2 pixels of the original.
        row = torch.arange(side)[:, None] // (2 * scale)
        column = (left + torch.arange(side)) // (2 * scale)
        for t, segments in enumerate(clip["segments"]):
            assert torch.equal(segments.long(), numbers[t] + 16 * (row % 4) + 64 * (column % 3))
        starts.add(numbers[0])
        lefts.add(left)
    assert len(starts) > 1
    assert len(lefts) > 1


@pytest.mark.parametrize("short_side", [3, 7, 10, 13, 33])
def test_segments_of_another_size_are_taken_as_torch_does(
    index: VideoIndex, tmp_path: Path, short_side: int
) -> None:
    store = PseudoMaskStore(tmp_path / "store")
    segments = np.random.default_rng(0).integers(0, 250, (4, 10, 15), dtype=np.uint8)
    store.begin(1)
    store.write(1, "v0", np.arange(4), segments)
    store.commit(1, {})
    store.reload()
    clip = dataset(index, store=store, short_side=short_side)[0]
    size = resized((20, 30), short_side)
    whole = torch.nn.functional.interpolate(torch.from_numpy(segments)[None].float(), size, mode="nearest-exact")
    squares = whole[0].unfold(-1, short_side, 1)  # (T, S, places, S)
    assert any(torch.equal(clip["segments"].float(), squares[:, :, left]) for left in range(squares.shape[2]))


def test_a_video_without_segments_is_still_drawn(index: VideoIndex, tmp_path: Path) -> None:
    store = PseudoMaskStore(tmp_path / "store")
    commit_generation(store, VideoIndex(index.root, index.entries[:1]), 1, frames=[0, 2, 4, 6])
    clips = dataset(index, store=store)
    assert (clips[0]["segments"] != IGNORE).all()
    assert (clips[1]["segments"] == IGNORE).all()
    assert clips[1]["generation"] == 1


def test_a_broken_video_is_logged_once_and_replaced(index: VideoIndex, caplog: pytest.LogCaptureFixture) -> None:
    clips = dataset(index)
    for picture in (index.root / "v1").iterdir():
        picture.write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        first = clips[1]
        again = clips[1]
    assert first["video"] in {"v0", "v2"}
    assert again["video"] == first["video"]
    assert torch.equal(first["frames"], again["frames"]), "the same whether it was known to be broken or not"
    assert len(caplog.records) == 1
    assert "v1" in caplog.text


def test_a_strip_is_replaced_whose_squares_would_be_smaller(
    tmp_path: Path, frame_folder: FrameFolder, caplog: pytest.LogCaptureFixture
) -> None:
    frame_folder(tmp_path / "videos" / "strip", frames=12, size=(16, 400))
    frame_folder(tmp_path / "videos" / "video", frames=12)
    clips = dataset(scan(tmp_path / "videos"), short_side=40)
    assert [clips[i]["video"] for i in range(len(clips))] == ["video"] * len(clips)
    assert "16 x 400 pixels (H x W) are too narrow" in caplog.text


def test_when_no_video_is_left_it_is_an_error(index: VideoIndex) -> None:
    clips = dataset(index)
    for video in index:
        for picture in video.path.iterdir():
            picture.unlink()
    with pytest.raises(DataError, match=" 3 videos"):
        clips[0]


@pytest.mark.parametrize("run_gap", [(0, 4), (5, 4)])
def test_distances_between_runs_out_of_order_are_errors(index: VideoIndex, run_gap: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"run_gap is \[., 4\]"):
        dataset(index, run_length=2, run_gap=run_gap)


@pytest.mark.parametrize("name", ["clip_length", "gap", "run_length", "short_side", "clips_per_video"])
def test_numbers_out_of_range_are_errors(index: VideoIndex, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        dataset(index, **{name: 0})


def test_the_sampler_splits_an_epoch_into_shards(index: VideoIndex) -> None:
    clips = dataset(index, clips_per_video=4)
    ranks = [ClipSampler(clips, world_size=2, rank=rank, seed=3) for rank in (0, 1)]
    orders = []
    for epoch in (0, 1):
        for sampler in ranks:
            sampler.set_epoch(epoch)
        shards = [list(sampler) for sampler in ranks]
        assert {e for shard in shards for e, _ in shard} == {epoch}
        assert sorted(number for shard in shards for _, number in shard) == list(range(12))
        orders.append(shards)
    assert [n for _, n in orders[0][0]] != [n for _, n in orders[1][0]]


def test_workers_share_the_cores_with_the_trainings_of_the_machine(
    index: VideoIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = ClipSampler(dataset(index))
    for cores, ranks, expected in ((1, 1, 1), (2, 1, 2), (2, 2, 2), (8, 1, 7), (8, 4, 2), (64, 1, 16), (64, 8, 7)):
        assert default_workers(cores, ranks) == expected
    monkeypatch.setattr("vos_umec.data.clips.available_cores", lambda: 5)
    assert clip_loader(sampler, 2, local_ranks=2).num_workers == 2
    assert clip_loader(sampler, 2, num_workers=1).num_workers == 1


def _identity(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return batch


@pytest.fixture(params=["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def context(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    return request.param


def test_persistent_workers_see_every_new_generation(index: VideoIndex, tmp_path: Path, context: str) -> None:
    store = PseudoMaskStore(tmp_path / "store")
    clips = dataset(index, store=store, clips_per_video=4)
    sampler = ClipSampler(clips)
    loader = DataLoader(
        clips, sampler=sampler, num_workers=2, persistent_workers=True, multiprocessing_context=context
    )
    workers = set()
    for generation in range(4):
        if generation:
            commit_generation(store, index, generation, frames=[generation, 4, 6, 8, 10])
        sampler.set_epoch(generation)
        batches = list(loader)
        assert len(batches) == 12
        workers.add(tuple(worker.pid for worker in loader._iterator._workers))  # type: ignore[union-attr]
        for batch in batches:
            assert batch["generation"].tolist() == [generation]
            assert bool((batch["segments"] == IGNORE).all()) == (generation == 0)
            assert generation == 0 or set(batch["frame_indices"][0].tolist()) <= {generation, 4, 6, 8, 10}
    assert len(workers) == 1, "the workers were not persistent: the test shows nothing"


def test_persistent_workers_read_the_clips_of_the_epoch(index: VideoIndex) -> None:
    clips = dataset(index, clips_per_video=3)
    sampler = ClipSampler(clips, seed=1)
    loader = DataLoader(
        clips, sampler=sampler, batch_size=2, num_workers=2, persistent_workers=True, collate_fn=_identity
    )
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        expected = [clips[item] for item in sampler]
        read = [clip for batch in loader for clip in batch]
        assert len(read) == 9
        for a, b in zip(expected, read, strict=True):
            assert a["video"] == b["video"]
            assert torch.equal(a["frames"], b["frames"])
