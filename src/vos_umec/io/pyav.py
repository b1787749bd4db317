"""Frames of a video file by PyAV: any format of FFmpeg, decoding only what is needed, at the wanted size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vos_umec.errors import VideoReadError
from vos_umec.io.container import FrameWalk, PictureMaker, decoding_threads, open_container
from vos_umec.io.frames import Frame, KnownSource, ProcessHandle, SourceFacts, frame_numbers, gather, unpack_stamps

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Codecs whose streams mark reliably which frames no other frame refers to.
_MARKS_REFERENCES = frozenset({"h264"})


class PyAVSource(KnownSource):
    """A `FrameSource` over any video file, equal frame by frame to decoding it from the start.

    It decodes on from its position. If the wanted frame lies behind it, or beyond the next key frame, it seeks to
    the last key frame before the wanted frame. Where the codec marks frames that no other frame refers to (h264),
    those on the way are skipped. Frames are identified by their time stamps; where stamps cannot identify them,
    frames are counted from the start. An undamaged file is decoded by `decoding_threads` threads (one in a loader
    worker), with the same result. Use it in one thread at a time.

    Args:
        path: A video file.
        facts: What opening it found.
    """

    def __init__(self, path: Path, facts: SourceFacts) -> None:
        super().__init__(path, facts)
        self._cursor: ProcessHandle[_Cursor] = ProcessHandle()

    def read(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Frame:
        """Read frames; see `FrameSource.read`."""
        wanted = size or self.size
        pictures = self._pictures(sorted(set(frame_numbers(indices))), wanted)
        return gather(self.path, len(self), indices, wanted, lambda index: next(pictures))

    def _pictures(self, indices: list[int], size: tuple[int, int]) -> Iterator[Frame]:
        cursor = self._cursor.get(lambda: _Cursor(self.path, self.facts))
        try:
            for frame in cursor.frames(indices):
                yield cursor.pictures.make(frame, size)
        except VideoReadError:
            self._cursor.drop()
            raise


class _Wanted:
    """The time stamps that a read wants, to tell which packets need no decoding.

    It is not part of the cursor, because a cursor that its own walk refers to would stay open until a garbage
    collection.
    """

    def __init__(self) -> None:
        self.may_skip = False
        self._stamps: set[int] = set()
        self._last = 0

    def set(self, stamps: list[int]) -> None:
        self._stamps, self._last = set(stamps), stamps[-1]

    def skips(self, packet: Packet[VideoStream]) -> bool:
        """Whether the frame of a packet is not wanted. Later frames are kept: the next read may want them."""
        stamp = packet.pts
        return self.may_skip and stamp is not None and stamp < self._last and stamp not in self._stamps


class _Cursor:
    """A position in an open video that decodes on, seeks to key frames, or starts again."""

    def __init__(self, path: Path, facts: SourceFacts) -> None:
        self.pictures = PictureMaker()
        self._path = path
        self._keys = np.array(facts.keys, np.int64)
        self._times = unpack_stamps(facts.stamps)
        self._index_of: dict[int | None, int] = {time: i for i, time in enumerate(self._times.tolist())}
        self._next = 0  # every frame from here on can be reached by decoding on
        self._wanted = _Wanted()
        # Without reliable stamps frames may be damaged, and threads conceal damage differently in every run.
        self._threads = decoding_threads() if len(self._times) else 1
        self._rewind()
        self._wanted.may_skip = bool(len(self._times)) and self._stream.codec_context.name in _MARKS_REFERENCES

    def frames(self, indices: list[int]) -> Iterator[VideoFrame]:
        """Decode the frames of ascending indices."""
        if len(self._times) and indices:
            self._wanted.set(self._times[indices].tolist())
        for index in indices:
            yield self._frame(index)

    def _frame(self, index: int) -> VideoFrame:
        earlier = self._keys[self._keys <= index]
        key = int(earlier[-1]) if len(earlier) and len(self._times) else -1
        if index < self._next or key > self._next:
            self._seek(key)
        found = self._walk_to(index)
        if found is None and self._wanted.may_skip:
            self._wanted.may_skip = False  # the decoder needed the skipped frames
            self._seek(key)
            found = self._walk_to(index)
        if found is None and not (self._from_start and self._threads == 1):
            # The seek ended after the frame or at no key frame, or threads lost the frame to damage after it.
            self._threads = 1
            self._rewind()
            found = self._walk_to(index)
        if found is None:
            raise VideoReadError(
                self._path,
                f"frame {index} could be decoded before, and cannot be now; "
                "if the file has changed, index the folder again",
            )
        return found

    def _walk_to(self, index: int) -> VideoFrame | None:
        for frame in self._frames:
            if len(self._times):
                here = self._index_of.get(frame.pts, -1)
                if here > index:
                    return None
                if here < 0:
                    continue
            else:
                here = self._next
            self._next = here + 1
            if here == index:
                return frame
        return None

    def _seek(self, key: int) -> None:
        import av

        if key < 0:
            self._rewind()
            return
        try:
            self._container.seek(int(self._times[key]), stream=self._stream)
        except av.error.FFmpegError:
            self._rewind()  # files without an index may not support seeking
            return
        self._begin(from_start=False)

    def _rewind(self) -> None:
        # In broken files only opening again reaches the start reliably.
        self._container, self._stream = open_container(self._path, self._threads)
        self._begin(from_start=True)

    def _begin(self, from_start: bool) -> None:
        self._frames: Iterator[VideoFrame] = iter(FrameWalk(self._container, self._stream, self._wanted.skips))
        self._from_start = from_start
        self._next = 0
