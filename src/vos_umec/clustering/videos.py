"""Pseudo masks of many videos: read, encode, cluster and write them, several videos at work at a time."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vos_umec.clustering.segments import SegmentHealth, SpaceTimeClusterer
from vos_umec.clustering.video import cluster_keys, encode_frames, frame_window, video_seed
from vos_umec.data.crashes import ReadingTable
from vos_umec.data.index import VideoEntry
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import DataError
from vos_umec.io.frames import Frame, resized
from vos_umec.io.pipeline import one_ahead
from vos_umec.models.encoder import Encoder
from vos_umec.viz.by_product import ByProduct
from vos_umec.viz.segments import segment_sheet
from vos_umec.viz.sheets import save_picture

log = logging.getLogger(__name__)

CPU_WRITERS, OTHER_WRITERS = 1, 4
"""Threads that cluster and write. To compress the masks of a video takes one 20 to 40 ms, a GPU needs less for all
else; where the CPU encodes, more threads would only compete with it."""


def cluster_videos(
    entries: Iterable[VideoEntry],
    store: PseudoMaskStore,
    generation: int,
    clusterer: SpaceTimeClusterer,
    encoder: Encoder,
    device: torch.device,
    frames_per_video: int = 24,
    gap: int = 2,
    short_side: int = 256,
    pictures: Mapping[str, Path] | None = None,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
    workers: int = 0,
) -> list[SegmentHealth]:
    """Write the pseudo masks of videos into a generation of the store that was begun.

    While one video is encoded, the next ones are read, and threads cluster and write the last ones. The masks
    depend on the weights, the video and the generation alone, so any process may make them. A video that cannot be
    read or clustered is left out with a warning.

    Args:
        entries: The videos, for example the shard of one rank.
        store: Where the masks go.
        generation: Number of the generation.
        clusterer: Makes segments from keys.
        encoder: The encoder E, on `device`.
        device: Where to compute.
        frames_per_video: Frames of the window that is drawn from each video.
        gap: Steps from one frame of the window to the next.
        short_side: Short side of the frames and of the masks in pixels.
        pictures: Video id to the file that shows its segments; other videos get no picture.
        precision: Context in which frames are encoded where the hardware does not multiply in bf16.
        workers: Processes that read videos; with 0 a thread of this process reads.

    Returns:
        The health of each video that has masks now, in order.
    """

    def finish(entry: VideoEntry, indices: Tensor, frames: Frame, keys: Tensor) -> SegmentHealth | None:
        size, seed = (frames.shape[1], frames.shape[2]), video_seed(entry.id, generation)
        try:
            result = cluster_keys(keys, clusterer, size, encoder.stride, seed)
        except DataError as error:
            log.warning("%s gets no pseudo masks: %s", entry.id, error)
            return None
        store.write(generation, entry.id, indices.numpy(), result.segments)
        if pictures and entry.id in pictures:
            with ByProduct(pictures[entry.id]):
                save_picture(pictures[entry.id], segment_sheet(frames, result.segments))
        return result.health

    windows = _Windows(generation, frames_per_video, gap, short_side)
    writers = CPU_WRITERS if device.type == "cpu" else OTHER_WRITERS
    finished: list[SegmentHealth | None] = []
    finishing: deque[Future[SegmentHealth | None]] = deque()
    with ThreadPoolExecutor(writers, "cluster and write", initializer=_use, initargs=(device,)) as threads:
        for entry, window in _read(windows, entries, workers, device):
            if isinstance(window, DataError):
                log.warning("%s gets no pseudo masks: %s", entry.id, window)
                continue
            indices, frames = window[0], window[1].numpy()
            with precision():
                keys = encode_frames(frames, encoder, device)
            while len(finishing) >= writers:
                finished.append(finishing.popleft().result())
            finishing.append(threads.submit(finish, entry, indices, frames, keys))
        finished += [last.result() for last in finishing]
    return [health for health in finished if health is not None]


_Window = tuple[Tensor, Tensor] | DataError
"""Frame numbers (T,) int64 and frames (T, H, W, 3) uint8 of a video, or why it cannot be read."""


class _Windows(Dataset[tuple[VideoEntry, _Window]]):
    """The frames of a video that are clustered; an item is an entry of the index."""

    def __init__(self, generation: int, frames: int, gap: int, short_side: int) -> None:
        self.generation, self.frames, self.gap, self.short_side = generation, frames, gap, short_side
        self.reading: ReadingTable | None = None  # what each worker of a loader reads

    def __getitem__(self, entry: VideoEntry) -> tuple[VideoEntry, _Window]:
        if self.reading is not None:
            self.reading.note(entry.path)
        try:
            source = entry.source()  # opened in the process that reads
            indices = frame_window(len(source), self.frames, self.gap, video_seed(entry.id, self.generation))
            frames = source.read(indices.tolist(), resized(source.size, self.short_side))
        except DataError as error:
            return entry, error
        return entry, (torch.from_numpy(indices), torch.from_numpy(frames))


def _read(
    windows: _Windows, entries: Iterable[VideoEntry], workers: int, device: torch.device
) -> Iterator[tuple[VideoEntry, _Window]]:
    """The windows of videos in order, read ahead by processes, or with 0 workers by one thread."""
    if workers == 0:
        for _, reading in one_ahead(windows.__getitem__, entries):
            yield reading.result()
        return
    windows.reading = ReadingTable(workers)
    yield from DataLoader(
        windows,
        batch_size=None,
        sampler=entries,
        num_workers=workers,
        pin_memory=device.type == "cuda",  # so that frames are copied to the device while it computes
        generator=torch.Generator(),  # its own, so that the loader does not advance the global one
    )


def _use(device: torch.device) -> None:
    """Let a new thread work on the GPU of its process; otherwise it would take memory on the machine's first."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
