"""One process's share of a generation of pseudo masks: videos read, encoded, clustered and written at once."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
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

Window = tuple[NDArray[np.int64], Frame]
"""Frame numbers (T,) and the frames (T, H, W, 3) uint8."""


@dataclass(frozen=True)
class VideoShard:
    """Makes the pseudo masks of some videos, three at a time.

    While this thread encodes one video, a second reads the next one, and a third clusters the last one and writes
    its masks. What is written does not depend on how they take turns.

    Attributes:
        store: Where masks go; the generation is begun.
        generation: Its number.
        clusterer: Makes segments of keys.
        encoder: Makes keys, on `device`.
        device: Where to compute.
        frames_per_video: Frames of the window that is drawn of each video.
        gap: Steps from one of them to the next.
        short_side: Short side in pixels at which they are clustered.
        pictures: Where a picture of a video goes, by video id; the others get none.
        precision: What to encode in where the hardware does not multiply in bf16, such as the Trainer's precision.
    """

    store: PseudoMaskStore
    generation: int
    clusterer: SpaceTimeClusterer
    encoder: Encoder
    device: torch.device
    frames_per_video: int = 24
    gap: int = 2
    short_side: int = 256
    pictures: Mapping[str, Path] | None = None
    precision: Callable[[], AbstractContextManager[object]] = nullcontext

    def run(self, entries: Iterable[VideoEntry]) -> list[SegmentHealth]:
        """Cluster the videos; one that cannot be read or clustered is left out with a warning.

        Args:
            entries: The videos.

        Returns:
            The health of those that have masks now, in order.
        """
        healths: list[SegmentHealth] = []
        with WriteBehind(waiting=1) as finisher:
            for entry, coming in one_ahead(self._read, entries):
                try:
                    indices, frames = coming.result()
                    with self.precision():
                        keys = encode_frames(frames, self.encoder, self.device)
                except DataError as error:
                    _leave_out(entry, error)
                else:
                    finisher.put(self._finish, entry, indices, frames, keys, healths)
        return healths

    def _read(self, entry: VideoEntry) -> Window:
        source = entry.source()
        indices = frame_window(len(source), self.frames_per_video, self.gap, video_seed(entry.id, self.generation))
        return indices, source.read(indices.tolist(), resized(source.size, self.short_side))

    def _finish(
        self,
        entry: VideoEntry,
        indices: NDArray[np.int64],
        frames: Frame,
        keys: Tensor,
        healths: list[SegmentHealth],
    ) -> None:
        size, seed = (frames.shape[1], frames.shape[2]), video_seed(entry.id, self.generation)
        try:
            result = cluster_keys(keys, self.clusterer, size, self.encoder.stride, seed)
        except DataError as error:
            _leave_out(entry, error)
            return
        self.store.write(self.generation, entry.id, indices, result.segments)
        if self.pictures and entry.id in self.pictures:
            save_picture(self.pictures[entry.id], segment_sheet(frames, result.segments))
        healths.append(result.health)


def _leave_out(entry: VideoEntry, error: DataError) -> None:
    log.warning("%s gets no pseudo masks: %s", entry.id, error)
