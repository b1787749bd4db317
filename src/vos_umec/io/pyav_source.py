"""Frames of a video file by PyAV: slower at jumping than decord, but it takes what decord does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vos_umec.errors import VideoReadError
from vos_umec.io.container import FrameWalk, open_container, to_rgb
from vos_umec.io.frames import Frame, SourceFacts, gather
from vos_umec.io.handles import ProcessHandle
from vos_umec.io.scan import VideoScan, scan_video

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class PyAVSource:
    """A ``FrameSource`` over a video file, frame for frame what decoding it from the start gives.

    It jumps to the key frame before the frame asked for and knows frames by their time stamps; where the
    stamps cannot tell frames apart it counts from the beginning. For one thread at a time.

    Args:
        path: A video file.
        facts: What opening it found before, to save the counting until the first read.

    Raises:
        VideoReadError: Not one frame can be decoded.

    Example:
        >>> PyAVSource(Path("clip.mp4"), SourceFacts("pyav", 28, (720, 1280), 10.0)).names[27]
        '00027'
    """

    def __init__(self, path: Path, facts: SourceFacts | None = None) -> None:
        self.path = path
        if facts is None:
            scan = scan_video(path)
            facts = SourceFacts("pyav", scan.frames, scan.size, scan.fps)
        self.facts = facts
        self._cursor: ProcessHandle[_Cursor] = ProcessHandle()

    def __len__(self) -> int:
        return self.facts.frames

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) as displayed."""
        return self.facts.size

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.facts.fps

    @property
    def names(self) -> list[str]:
        """Frame numbers of five digits."""
        return [f"{index:05d}" for index in range(len(self))]

    def read(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Frame:
        """Read frames; see ``FrameSource.read``."""
        return gather(self.path, len(self), indices, size or self.size, self._frame)

    def _frame(self, index: int) -> Frame:
        cursor = self._cursor.get(self._open)
        try:
            frame = cursor.frame(index)
        except VideoReadError:
            self._cursor.drop()
            raise
        return to_rgb(frame, self.size)

    def _open(self) -> _Cursor:
        return _Cursor(self.path, scan_video(self.path))


class _Cursor:
    """A place in an open video: walks on, jumps to key frames, starts again."""

    def __init__(self, path: Path, scan: VideoScan) -> None:
        self._path = path
        self._next = 0
        self._keys = np.array(scan.keys, np.int64)
        self._times = scan.times
        self._index_of = {int(time): index for index, time in enumerate(scan.times)}
        self._rewind()

    def frame(self, index: int) -> VideoFrame:
        """Decode frame ``index``."""
        earlier = self._keys[self._keys <= index]
        key = int(earlier[-1]) if len(earlier) else 0
        if index < self._next or (key > self._next and len(self._times)):
            self._jump(key)
        found = self._walk_to(index)
        if found is None and not self._from_start:
            self._rewind()  # the jump landed behind the frame, or in the middle of nothing
            found = self._walk_to(index)
        if found is None:
            raise VideoReadError(self._path, f"frame {index} could be decoded before and cannot be now")
        return found

    def _walk_to(self, index: int) -> VideoFrame | None:
        for frame in self._frames:
            if self._from_start:
                here = self._next
            else:
                here = self._index_of.get(frame.pts if frame.pts is not None else -1, -1)
                if here > index:
                    return None
                if here < 0:
                    continue
            self._next = here + 1
            if here == index:
                return frame
        return None

    def _jump(self, key: int) -> None:
        import av

        if key == 0 or not len(self._times):
            self._rewind()
            return
        try:
            self._container.seek(int(self._times[key]), stream=self._stream)
        except av.error.FFmpegError:
            self._rewind()  # files without an index may not be able to jump
            return
        self._begin(from_start=False)

    def _rewind(self) -> None:
        # Opening again is the one jump to the start that works in every broken file.
        self._container, self._stream = open_container(self._path)
        self._begin(from_start=True)

    def _begin(self, from_start: bool) -> None:
        self._frames: Iterator[VideoFrame] = iter(FrameWalk(self._container, self._stream))
        self._from_start = from_start
        self._next = 0
