"""Training clips: a few frames of one video, cut to a square, with their pseudo masks."""

import logging
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice, repeat
from math import ceil, floor
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from vos_umec.constants import IGNORE
from vos_umec.data.crashes import ReadingTable
from vos_umec.data.index import VideoEntry, VideoIndex
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import ConfigError, DataError, VideoReadError
from vos_umec.io.container import available_cores
from vos_umec.io.frames import resized
from vos_umec.io.source import FrameSource

log = logging.getLogger(__name__)

# 12 clips of the slowest video measured take one worker 1.2 s, so 16 workers have a batch in 0.1 s. Each may hold
# 200 MB in videos that it has open and in the two batches that it reads ahead.
_MOST_WORKERS = 16
_OPEN_VIDEOS = 16  # that each process keeps open: a decoder holds a few frames, at 480p about 10 MB


def clip_positions(
    frames: int,
    length: int,
    gap: int,
    rng: np.random.Generator,
    run_length: int | None = None,
    run_gap: tuple[int, int] = (1, 1),
) -> NDArray[np.int64]:
    """Draw the positions of a clip in a list of frames, with a uniform start.

    A clip is one run of frames `gap` apart, or several runs of `run_length` frames, of which the last one may be
    shorter. A list too short for that gets the largest gap that fits if all frames were equally far apart, then the
    largest distances between runs. A list shorter than the clip is read forwards and backwards, so that successive
    frames always differ.

    Args:
        frames: Frames of the list, at least 1.
        length: T, frames of the clip.
        gap: Positions from one frame of a run to the next.
        rng: Where the draws come from.
        run_length: Frames of a run; None for one run.
        run_gap: Least and most positions from the last frame of a run to the first one of the next; uniform.

    Returns:
        (T,) positions in 0 to frames - 1.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> clip_positions(9, length=5, gap=2, rng=rng).tolist(), clip_positions(3, 5, 2, rng).tolist()
        ([0, 2, 4, 6, 8], [0, 1, 2, 1, 0])
        >>> clip_positions(14, length=5, gap=1, rng=rng, run_length=3, run_gap=(10, 10)).tolist()
        [0, 1, 2, 12, 13]
    """
    if frames < length:
        turns = np.arange(length) % max(2 * (frames - 1), 1)
        return np.minimum(turns, np.abs(2 * (frames - 1) - turns))
    gap = min(gap, max((frames - 1) // max(length - 1, 1), 1))
    steps = np.full(length - 1, gap)
    between = np.arange(1, length) % (run_length or length) == 0  # (T-1,) steps that lead to the next run
    runs = int(between.sum()) + 1
    if runs > 1:
        most = (frames - 1 - (length - runs) * gap) // (runs - 1)  # at least `gap`
        steps[between] = rng.integers(min(run_gap[0], most), min(run_gap[1], most) + 1, runs - 1)
    start = rng.integers(frames - steps.sum())
    return np.asarray(start + np.append(0, steps.cumsum()), dtype=np.int64)


class ClipDataset(Dataset[dict[str, Any]]):
    """One random clip per item, the same for the same seed, epoch and item.

    An item is a number, or a pair (epoch, number) as `ClipSampler` yields it: the epoch comes with the item, so
    that data-loader workers, persistent ones too, know it without shared state.

    If the store holds segments of a video, its clips are drawn from the frames that have segments, with the same
    distances where they have room. A video that cannot be read is logged once and replaced by another.

    Args:
        index: Videos to draw from.
        clip_length: T, frames of a clip.
        gap: Distance between successive frames of a run, in frames that exist; smaller in short videos.
        run_length: Frames of a run; the last run of a clip may be shorter. None: the clip is one run.
        run_gap: Least and most frames from the end of a run to the start of the next, drawn uniformly. They count
            frames of the original video, so that [10, 40] is 2 to 8 frames where only every fifth one exists.
        fps: Count `gap` and `run_gap` at this frame rate: in a video of twice the rate, distances double. None:
            they are the same in all videos.
        short_side: S, short side in pixels of the resized frames, from which a random S x S square is cut.
        store: Pseudo masks; None for clips without.
        seed: Seed of all draws.
        clips_per_video: Items per video.

    Raises:
        ConfigError: A number is out of range, or `fps` is given and a video has no frame rate.
    """

    def __init__(
        self,
        index: VideoIndex,
        clip_length: int = 5,
        gap: int = 2,
        run_length: int | None = None,
        run_gap: tuple[int, int] = (10, 40),
        fps: float | None = None,
        short_side: int = 319,
        store: PseudoMaskStore | None = None,
        seed: int = 0,
        clips_per_video: int = 1,
    ) -> None:
        numbers = {"clip_length": clip_length, "gap": gap, "run_length": run_length}
        for name, value in {**numbers, "short_side": short_side, "clips_per_video": clips_per_video}.items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected at least 1")
        if not 1 <= run_gap[0] <= run_gap[1]:
            raise ConfigError(f"run_gap is {list(run_gap)}; expected its least and its most frames, at least 1")
        if fps is not None:
            _require_rates(index, fps)
        self.index = index
        self.clip_length = clip_length
        self.gap = gap
        self.run_length = run_length
        self.run_gap = run_gap
        self.fps = fps
        self.short_side = short_side
        self.store = store
        self.seed = seed
        self.clips_per_video = clips_per_video
        self._failed: set[str] = set()
        self._open: OrderedDict[str, FrameSource] = OrderedDict()  # the most recently used one is last
        self.reading: ReadingTable | None = None  # what each worker of a loader reads

    def __len__(self) -> int:
        return len(self.index) * self.clips_per_video

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """Read one clip.

        Returns:
            `frames` (T, 3, S, S) uint8, `frame_indices` (T,) int64 in frames of the original video, `video` (id),
            `generation` (0 if there are no pseudo masks), and with a store `segments` (T, S, S) uint8, 255 where
            nothing is known.

        Raises:
            DataError: No video of the index can be read any more.
            IndexError: The number is out of range.
        """
        epoch, number = item if isinstance(item, tuple) else (0, item)
        if not 0 <= number < len(self):
            raise IndexError(f"item {number} of {len(self)} clips")
        reason: DataError | None = None
        for attempt, video in enumerate(self._candidates(epoch, number)):
            if video.id in self._failed:
                continue
            try:
                return self._clip(video, np.random.default_rng([self.seed, epoch, number, attempt]))
            except DataError as error:
                log.warning("%s; drawing another video", error)
                self._failed.add(video.id)
                reason = error
        raise DataError(
            f"none of the {len(self.index)} videos in {self.index.root} can be read any more: the warnings above "
            "say why"
        ) from reason

    def _candidates(self, epoch: int, number: int) -> Iterator[VideoEntry]:
        """The video of this item, then all others in random order, in case it cannot be read."""
        entries = self.index.entries
        first = number % len(entries)
        yield entries[first]
        order = np.random.default_rng([self.seed, epoch, number]).permutation(len(entries))
        yield from (entries[i] for i in order.tolist() if i != first)

    def _clip(self, video: VideoEntry, rng: np.random.Generator) -> dict[str, Any]:
        if self.reading is not None:
            self.reading.note(video.path)
        # Read the counter once: a new generation may become current while this clip is read.
        generation = self.store.generation if self.store else 0
        stored = self.store.frame_indices(video.id, generation) if self.store else np.empty(0, np.int64)
        source = self._source(video)
        indices = self._draw(stored if len(stored) else np.arange(len(source)), video, rng)
        size = resized(source.size, self.short_side)
        if min(size) < self.short_side:  # its squares would not fit those of other videos
            h, w = source.size
            raise VideoReadError(video.path, f"its frames of {h} x {w} pixels (H x W) are too narrow to train on")
        window = _square(size, rng)
        frames = source.read(indices.tolist(), size)[:, *window]  # (T, S, S, 3)
        clip = {
            "frames": torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(),  # (T, 3, S, S)
            "frame_indices": torch.from_numpy(indices * video.step),  # (T,); counts frames that were left out, too
            "video": video.id,
            "generation": generation,
        }
        if self.store and len(stored):
            segments = self.store.read(video.id, indices, generation)  # (T, h, w)
            clip["segments"] = torch.from_numpy(_nearest(segments, size, window))  # (T, S, S)
        elif self.store:
            clip["segments"] = torch.full(frames.shape[:3], IGNORE, dtype=torch.uint8)
        return clip

    def _draw(self, frames: NDArray[np.int64], video: VideoEntry, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose the (T,) frames of a clip from those that may be drawn, which are about equally far apart."""
        spacing = float(np.median(np.diff(frames))) if len(frames) > 1 else 1.0
        rate = video.fps / self.fps if self.fps and video.fps else 1.0
        per_gap, per_run_gap = rate / spacing, rate / (spacing * video.step)  # positions in the list, a frame
        gap = max(1, round(self.gap * per_gap))
        least = max(1, ceil(self.run_gap[0] * per_run_gap))
        most = max(least, floor(self.run_gap[1] * per_run_gap))
        return frames[clip_positions(len(frames), self.clip_length, gap, rng, self.run_length, (least, most))]

    def _source(self, video: VideoEntry) -> FrameSource:
        """The frames of a video, which stays open for the next clip of it."""
        source = self._open.pop(video.id, None) or video.source()
        self._open[video.id] = source
        if len(self._open) > _OPEN_VIDEOS:
            self._open.popitem(last=False)
        return source


def _require_rates(index: VideoIndex, fps: float) -> None:
    """Refuse distances in time where there is no time."""
    if fps <= 0:
        raise ConfigError(f"fps is {fps}; expected a frame rate above 0, or null for distances in frames")
    without = [entry.id for entry in index if entry.fps is None]
    if without:
        raise ConfigError(
            f"fps is {fps:g}, and {len(without)} of {len(index)} videos in {index.root} have no frame rate (first "
            f"{without[0]}, a folder of frames): train on video files or on their copies by `vos-umec prepare`, or "
            "leave fps out"
        )


def _square(size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a square, at a random place along the longer side."""
    side = min(size)
    top, left = (int(rng.integers(n - side + 1)) for n in size)
    return slice(top, top + side), slice(left, left + side)


def _nearest(segments: NDArray[np.uint8], size: tuple[int, int], window: tuple[slice, slice]) -> NDArray[np.uint8]:
    """A window of (T, h, w) segments resized to `size`; each pixel takes the cell it lies in."""
    rows, columns = (
        ((np.arange(part.start, part.stop) + 0.5) * cells / pixels).astype(np.int64)
        for part, cells, pixels in zip(window, segments.shape[1:], size, strict=True)
    )
    return segments[:, rows[:, None], columns]


class ClipSampler(DistributedSampler[Any]):
    """Shuffles the items of an epoch, gives each process its shard, and adds the epoch to each item.

    Lightning keeps a `DistributedSampler` and calls its `set_epoch` before each epoch.

    Attributes:
        done: For each epoch that a resumed run begins in its middle, the number of items that it leaves out.
    """

    def __init__(self, dataset: ClipDataset, world_size: int = 1, rank: int = 0, seed: int = 0) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, seed=seed)
        self.done: dict[int, int] = {}

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (epoch, number) of this process's items."""
        items = zip(repeat(self.epoch), super().__iter__(), strict=False)
        return islice(items, self.done.get(self.epoch, 0), None)


class ClipLoader(DataLoader[dict[str, Any]]):
    """A `DataLoader` that goes on in the middle of an epoch, and measures how long training waits for batches.

    Lightning puts its state into checkpoints, and gives it back to a run that resumes. The state is the number of
    batches that were trained on: what a clip shows depends on the seed, the epoch and the item alone, so neither
    workers nor batches that they have read ahead have a state to keep.

    Nothing is read before the first batch is asked for: not with the epoch, or the pseudo masks, of the time when
    the loader was made.

    Attributes:
        waited: Seconds, over all epochs.
    """

    batch_size: int
    waited: float = 0.0
    _given: int = 0  # batches of this epoch, those before a resumed run began included

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # torch names its own iterator class
        """Begin an epoch."""
        self._given = 0
        if isinstance(self.sampler, ClipSampler):  # for `overfit_batches`, Lightning puts another in
            self._given = self.sampler.done.get(self.sampler.epoch, 0) // self.batch_size
        batches = super().__iter__()
        while True:
            start = perf_counter()
            batch = next(batches, None)
            self.waited += perf_counter() - start
            if batch is None:
                return
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of its batches that were given out; the same on all processes."""
        return {"epoch": getattr(self.sampler, "epoch", 0), "batches": self._given}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Leave these batches out of that epoch."""
        if isinstance(self.sampler, ClipSampler):
            self.sampler.done = {state_dict["epoch"]: state_dict["batches"] * self.batch_size}


def seed_draws(*place: int) -> None:
    """Seed torch's generators, those of all devices, by a place in training: seed, rank, epoch, batch.

    What is drawn next then depends on the place alone. A run that resumes there draws the same as one that was
    never interrupted, with no state to save.

    Example:
        >>> seed_draws(0, 1, 7, 3)
        >>> first = torch.rand(2)
        >>> seed_draws(0, 1, 7, 3)
        >>> torch.equal(torch.rand(2), first)
        True
    """
    torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))


def clip_loader(
    sampler: ClipSampler, batch_size: int, num_workers: int | None = None, local_ranks: int = 1
) -> ClipLoader:
    """Batches of the clips that a sampler yields, read by persistent workers.

    Args:
        sampler: Yields the items; its data set reads them.
        batch_size: B, clips per batch. An incomplete last batch is dropped, unless it is the only one.
        num_workers: Processes that read, each with one decoder thread; None for `default_workers`.
        local_ranks: Training processes that share the cores of this machine.
    """
    incomplete = len(sampler) < batch_size
    if incomplete:
        log.info(
            "an epoch has %d clips per device, so a batch has as many and not %d; clips_per_video times the videos "
            "are an epoch",
            len(sampler),
            batch_size,
        )
    workers = default_workers(available_cores(), local_ranks) if num_workers is None else num_workers
    if isinstance(sampler.dataset, ClipDataset):
        sampler.dataset.reading = ReadingTable(workers)
    return ClipLoader(
        sampler.dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=not incomplete,
        generator=torch.Generator(),  # its own, so that the loader does not advance the global one
    )


def default_workers(cores: int, local_ranks: int = 1) -> int:
    """Processes that read clips for one training process: all cores but one, divided among the local ranks.

    At least 2 where there are two cores, and at most 16.

    Example:
        >>> [default_workers(cores) for cores in (1, 2, 4, 8, 64)], default_workers(64, local_ranks=8)
        ([1, 2, 3, 7, 16], 7)
    """
    return min(cores, _MOST_WORKERS, max(2, (cores - 1) // local_ranks))
