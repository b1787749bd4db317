"""Frames of a video file by PyAV: any file FFmpeg knows, decoded no further and no larger than asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vos_umec.errors import VideoReadError
from vos_umec.io.container import FrameWalk, PictureMaker, decoding_threads, open_container
from vos_umec.io.frames import Frame, ProcessHandle, SourceFacts, gather, unpack_stamps
from vos_umec.io.scan import scan_facts, scan_video

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Where the stream itself marks the frames that no other is made from, in a way that leaves no doubt.
_MARKS_REFERENCES = frozenset({"h264"})


class PyAVSource:
    """A ``FrameSource`` over a video file, frame for frame what decoding it from the start gives.

    It walks on from where it is, unless a key frame lies between there and the frame asked for, or the frame lies
    behind: then it jumps to the key frame before it. Frames on the way are decoded only if others are made from
    them, where the codec says so (h264). It knows frames by their time stamps; where the stamps cannot tell frames
    apart it counts from the beginning. Frames of a sound file are decoded by as many threads as
    ``decoding_threads`` says, one in a loader worker, with the same result. For one thread at a time.

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
            facts = scan_facts(scan_video(path), "pyav")
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
        wanted = size or self.size
        pictures = self._pictures(sorted(set(indices)), wanted)
        return gather(self.path, len(self), indices, wanted, lambda index: next(pictures))

    def _pictures(self, indices: list[int], size: tuple[int, int]) -> Iterator[Frame]:
        cursor = self._cursor.get(self._open)
        try:
            for frame in cursor.frames(indices):
                yield cursor.pictures.make(frame, size)
        except VideoReadError:
            self._cursor.drop()
            raise

    def _open(self) -> _Cursor:
        if self.facts.stamps is not None:
            return _Cursor(self.path, self.facts)
        found = scan_facts(scan_video(self.path), "pyav")
        if found.frames != len(self):
            raise VideoReadError(
                self.path,
                f"it has {found.frames} frames where {len(self)} were found before; "
                "the file has changed, index the folder again",
            )
        return _Cursor(self.path, found)


class _Wanted:
    """The frames that a read wants, by their time stamps; says which packets it can do without.

    Not part of the cursor: a cursor that its own walk refers to would stay open until Python looks for circles.
    """

    def __init__(self) -> None:
        self.may_pass = False
        self._stamps: set[int] = set()
        self._last = 0

    def set(self, stamps: list[int]) -> None:
        self._stamps, self._last = set(stamps), stamps[-1]

    def passes_over(self, packet: Packet[VideoStream]) -> bool:
        """Whether the frame of a packet is not wanted. Those behind the last one may be, in the next read."""
        stamp = packet.pts
        return self.may_pass and stamp is not None and stamp < self._last and stamp not in self._stamps


class _Cursor:
    """A place in an open video: walks on, jumps to key frames, starts again."""

    def __init__(self, path: Path, facts: SourceFacts) -> None:
        self.pictures = PictureMaker()
        self._path = path
        self._keys = np.array(facts.keys, np.int64)
        self._times = unpack_stamps(facts.stamps or ())
        self._index_of: dict[int | None, int] = {time: i for i, time in enumerate(self._times.tolist())}
        self._next = 0  # every frame from here on can still be had by walking on
        self._wanted = _Wanted()
        # Where stamps cannot be trusted pictures may be damaged, and threads mend them differently every time.
        self._threads = decoding_threads() if len(self._times) else 1
        self._rewind()
        self._wanted.may_pass = bool(len(self._times)) and self._stream.codec_context.name in _MARKS_REFERENCES

    def frames(self, indices: list[int]) -> Iterator[VideoFrame]:
        """Decode some frames, given in rising order."""
        if len(self._times) and indices:
            self._wanted.set(self._times[indices].tolist())
        for index in indices:
            yield self._frame(index)

    def _frame(self, index: int) -> VideoFrame:
        earlier = self._keys[self._keys <= index]
        key = int(earlier[-1]) if len(earlier) and len(self._times) else -1
        if index < self._next or key > self._next:
            self._jump(key)
        found = self._walk_to(index)
        if found is None and self._wanted.may_pass:
            self._wanted.may_pass = False  # the decoder needed to see the frames passed over
            self._jump(key)
            found = self._walk_to(index)
        if found is None and not (self._from_start and self._threads == 1):
            # The jump landed behind the frame, or in the middle of nothing; or threads lost it to damage behind it.
            self._threads = 1
            self._rewind()
            found = self._walk_to(index)
        if found is None:
            raise VideoReadError(
                self._path,
                f"frame {index} could be decoded before and cannot be now; "
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

    def _jump(self, key: int) -> None:
        import av

        if key < 0:
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
        self._container, self._stream = open_container(self._path, self._threads)
        self._begin(from_start=True)

    def _begin(self, from_start: bool) -> None:
        self._frames: Iterator[VideoFrame] = iter(
            FrameWalk(self._container, self._stream, self._wanted.passes_over)
        )
        self._from_start = from_start
        self._next = 0
