"""The video that shows the masks over the frames: a by-product, which never stops the masks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from vos_umec.errors import VosUmecError
from vos_umec.io.frames import Frame
from vos_umec.io.masks import Ids
from vos_umec.io.pipeline import read_ahead
from vos_umec.io.source import FrameSource, open_source
from vos_umec.io.video_writer import VideoWriter
from vos_umec.viz.overlays import overlay

log = logging.getLogger(__name__)


class OverlayMovie:
    """Writes the frames of a video with their masks, from frame 0 on; use it in a `with` block.

    Frames come in the order of a segmentation: backward before `first`, then forward from it or, in a run that was
    resumed, from a later one. Those before the first forward one are read again, with the masks that are on disk.

    Args:
        path: Where to write.
        source: The video.
        first: The frame from which frames come forward.
        mask_of: The mask of an earlier frame; None for a frame that has none.

    Attributes:
        complete: Whether a whole file was written.
    """

    def __init__(self, path: Path, source: FrameSource, first: int, mask_of: Callable[[int], Ids | None]) -> None:
        self.complete = False
        self._path = path
        self._source = source
        self._first = first
        self._mask_of = mask_of
        self._frames = 0
        self._writer: VideoWriter | None = None
        self._failed = False

    def __enter__(self) -> OverlayMovie:
        return self

    def write(self, index: int, frame: Frame, ids: Ids) -> None:
        """Add a frame; without effect before the forward pass, and after a failure."""
        if index >= self._first and not self._failed:
            self._guarded(self._add, index, frame, ids)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._writer is None:
            return
        if error is not None or self._failed:
            self._close(error or VosUmecError("the overlay failed"))
        else:
            self._guarded(self._close, None)
            self.complete = not self._failed

    def _add(self, index: int, frame: Frame, ids: Ids) -> None:
        if self._writer is None:
            writer = VideoWriter(self._path, self._source.fps)
            self._writer = writer.__enter__()
            if index:  # the source itself is being read
                again = open_source(self._source.path, getattr(self._source, "facts", None))
                for earlier, pixels in read_ahead(again, indices=range(index)):
                    mask = self._mask_of(earlier)
                    writer.write(pixels if mask is None else overlay(pixels, mask))
        self._writer.write(overlay(frame, ids))

    def _close(self, error: BaseException | None) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.__exit__(type(error) if error else None, error, None)
        except BaseException as raised:
            if raised is not error:  # the writer raises what it was given, once its file is removed
                raise

    def _guarded(self, call: Callable[..., None], *arguments: object) -> None:
        from av.error import FFmpegError

        try:
            call(*arguments)
        except (VosUmecError, OSError, ValueError, FFmpegError) as error:
            self._failed = True
            log.warning("the overlay video is left out, and the masks go on: %s", error)
