"""How clips become batches: which clips a process reads in an epoch, and the workers that read them."""

import logging
import os
from collections.abc import Iterator
from itertools import repeat
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler

from vos_umec.data.clips import ClipDataset

log = logging.getLogger(__name__)


class ClipSampler(DistributedSampler[Any]):
    """Shuffles the items of an epoch, gives each process its share, and sends the epoch along with each item.

    Lightning leaves a ``DistributedSampler`` in place and calls its ``set_epoch`` before each epoch, except for the
    one it resumes in, whose first items are drawn before: give that one as ``epoch``.

    Args:
        dataset: Where the items are read.
        world_size: Number of processes.
        rank: This process.
        seed: Start of the shuffling.
        epoch: The epoch to begin with.

    Example:
        >>> from pathlib import Path
        >>> from vos_umec.data.index import VideoEntry, VideoIndex
        >>> bear = VideoEntry("bear.mp4", Path("bear.mp4"), frames=82, size=(480, 854), fps=24.0)
        >>> clips = ClipDataset(VideoIndex(Path("."), entries=(bear,)), clips_per_video=2)
        >>> sorted(ClipSampler(clips, epoch=7))
        [(7, 0), (7, 1)]
    """

    def __init__(
        self, dataset: ClipDataset, world_size: int = 1, rank: int = 0, seed: int = 0, epoch: int = 0
    ) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, seed=seed)
        self.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (epoch, number) of this process's items."""
        return zip(repeat(self.epoch), super().__iter__(), strict=False)


class ClipLoader(DataLoader[dict[str, Any]]):
    """A ``DataLoader`` that counts the time in which whoever asks for a batch has to wait for it.

    Attributes:
        waited: Seconds, over all epochs.

    Example:
        >>> loader = ClipLoader([{"video": "a"}, {"video": "b"}])
        >>> len(list(loader)), loader.waited > 0
        (2, True)
    """

    waited: float = 0.0

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # torch names its own iterator class
        """Begin an epoch."""
        return self._counted(super().__iter__())

    def _counted(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        while True:
            start = perf_counter()
            batch = next(batches, None)
            self.waited += perf_counter() - start
            if batch is None:
                return
            yield batch


def clip_loader(sampler: ClipSampler, batch_size: int, num_workers: int | None = None) -> ClipLoader:
    """Batches of the clips a sampler names, read by workers that stay from epoch to epoch.

    Args:
        sampler: Names the clips; its data set reads them.
        batch_size: B, clips of a batch. The rest of an epoch that fills no batch is left out, unless it is all.
        num_workers: Processes that read, each with one decoder thread; None for one per core, at most 4.

    Returns:
        The loader.

    Example:
        >>> from pathlib import Path
        >>> from vos_umec.data.index import VideoEntry, VideoIndex
        >>> bear = VideoEntry("bear.mp4", Path("bear.mp4"), frames=82, size=(480, 854), fps=24.0)
        >>> clips = ClipDataset(VideoIndex(Path("."), entries=(bear,)), clips_per_video=5)
        >>> len(clip_loader(ClipSampler(clips), batch_size=2, num_workers=0))
        2
    """
    few = len(sampler) < batch_size
    if few:
        log.warning(
            "an epoch has %d clips a device, less than batch_size %d: raise clips_per_video for full batches",
            len(sampler),
            batch_size,
        )
    workers = min(4, os.cpu_count() or 1) if num_workers is None else num_workers
    return ClipLoader(
        sampler.dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=not few,
        generator=torch.Generator(),  # clips have their own; what an epoch draws besides must not depend on this
    )
