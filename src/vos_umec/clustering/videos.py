"""Pseudo masks of many videos: read, encode, cluster and write them, three videos at work at a time."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vos_umec.clustering.segments import SegmentHealth, SpaceTimeClusterer
from vos_umec.clustering.video import cluster_keys, encode_frames, frame_window, video_seed
from vos_umec.data.index import VideoEntry
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import DataError
from vos_umec.io.frames import Frame, resized
from vos_umec.io.pipeline import WriteBehind, one_ahead
from vos_umec.models.encoder import Encoder
from vos_umec.viz.segments import segment_sheet
from vos_umec.viz.sheets import save_picture

log = logging.getLogger(__name__)


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
) -> list[SegmentHealth]:
    """Write the pseudo masks of videos into a generation of the store that was begun.

    While one video is encoded, one thread reads the next video, and another clusters and writes the last one. The
    masks depend on the weights, the video and the generation alone, so any process may make them. A video that
    cannot be read or clustered is left out with a warning.

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

    Returns:
        The health of each video that has masks now, in order.
    """

    def read(entry: VideoEntry) -> tuple[NDArray[np.int64], Frame]:
        source = entry.source()
        indices = frame_window(len(source), frames_per_video, gap, video_seed(entry.id, generation))
        return indices, source.read(indices.tolist(), resized(source.size, short_side))

    def finish(entry: VideoEntry, indices: NDArray[np.int64], frames: Frame, keys: Tensor) -> None:
        size, seed = (frames.shape[1], frames.shape[2]), video_seed(entry.id, generation)
        try:
            result = cluster_keys(keys, clusterer, size, encoder.stride, seed)
        except DataError as error:
            log.warning("%s gets no pseudo masks: %s", entry.id, error)
            return
        store.write(generation, entry.id, indices, result.segments)
        if pictures and entry.id in pictures:
            save_picture(pictures[entry.id], segment_sheet(frames, result.segments))
        healths.append(result.health)

    healths: list[SegmentHealth] = []
    with WriteBehind(waiting=1) as writer:
        for entry, reading in one_ahead(read, entries):
            try:
                indices, frames = reading.result()
                with precision():
                    keys = encode_frames(frames, encoder, device)
            except DataError as error:
                log.warning("%s gets no pseudo masks: %s", entry.id, error)
            else:
                writer.put(finish, entry, indices, frames, keys)
    return healths
