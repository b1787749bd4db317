"""Frames of a video file by decord: whole frames, fast, of files for which it is known to be right."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vos_umec.errors import VideoReadError
from vos_umec.io.frames import Frame, KnownSource, ProcessHandle, SourceFacts, gather, report_progress
from vos_umec.io.pyav import PyAVSource
from vos_umec.io.scan import VideoScan, looks_like

_SECONDS_PER_BYTE = 1e-8  # decord reads the whole file to open it


def import_decord() -> ModuleType:
    """Import decord for decoding on the CPU, without its log output.

    On import decord2 opens every CUDA library that pip has installed, for the whole process. One of them,
    libnvblas, then takes over the BLAS calls of faiss and makes it crash. Decoding on the CPU needs none of them,
    so the package `nvidia`, where decord2 looks for them, is hidden during the import.
    """
    loaded = sys.modules.get("decord")
    if loaded is not None:
        return loaded
    missing = object()
    shown = sys.modules.get("nvidia", missing)
    sys.modules["nvidia"] = None  # type: ignore[assignment]  # importlib reads None as "not found"
    try:
        import decord
    finally:
        if shown is missing:
            del sys.modules["nvidia"]
        else:
            sys.modules["nvidia"] = shown  # type: ignore[assignment]
    decord.logging.set_level(decord.logging.QUIET)
    module: ModuleType = decord
    return module


class DecordSource(KnownSource):
    """A `FrameSource` over an undamaged video file. Use it in one thread at a time.

    decord reads consecutive frames at full size twice as fast as PyAV. Frames at another size, as training clips
    need them, are read by `PyAVSource`: decord would decode and copy whole frames.

    Args:
        path: A video file for which `decord_misreads` returns None.
        facts: What opening it found.
    """

    def __init__(self, path: Path, facts: SourceFacts) -> None:
        super().__init__(path, facts)
        self._reader: ProcessHandle[Any] = ProcessHandle()
        self._scaled = PyAVSource(path, facts)

    def read(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Frame:
        """Read frames; see `FrameSource.read`."""
        if size not in (None, self.size):
            return self._scaled.read(indices, size)
        return gather(self.path, len(self), indices, self.size, self._frame)

    def _frame(self, index: int) -> Frame:
        decord = import_decord()
        try:
            frame: Frame = self._reader.get(self._open)[index].asnumpy()
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            self._reader.drop()
            raise VideoReadError(self.path, f"frame {index} cannot be decoded: {_first_line(error)}") from error
        if frame.shape[:2] != self.size:
            raise VideoReadError(self.path, f"frame {index} has size {frame.shape[:2]}: expected {self.size}")
        return frame

    def _open(self) -> Any:
        reader = _open_reader(self.path)
        self._require_unchanged(len(reader))
        return reader


def decord_misreads(path: Path, scan: VideoScan) -> str | None:
    """Reason why decord gives wrong frames for a file; None if they are those of decoding from the start.

    decord makes three errors without a message. It counts frames that are never shown. It takes the position of a
    key frame in the file for its position in the video, which is wrong for open groups of pictures. It repeats an
    old frame where time stamps do not increase. So decord reads only files in which none of this can happen.
    """
    decord = import_decord()
    if scan.damage:
        return "the file is damaged"
    if scan.frames == 1:
        return "one frame needs no seeking"
    if not len(scan.times):
        return "time stamps do not increase, or frames are damaged"
    if not scan.one_size:
        return "frames change their size"
    if scan.mirrored:
        return "decord does not mirror"
    report_progress(_SECONDS_PER_BYTE * path.stat().st_size)
    try:
        reader = _open_reader(path)
        if len(reader) != scan.frames:
            return f"decord counts {len(reader)} frames, {scan.frames} can be decoded"
        if not set(reader.get_key_indices()) <= set(scan.keys):
            return "decord places key frames wrongly"
        ends = (reader[scan.frames - 1].asnumpy(), reader[0].asnumpy())  # the last one first, to test a real seek
    except (decord.DECORDError, RuntimeError, IndexError, UnicodeEncodeError) as error:  # the last: name not UTF-8
        return _first_line(error)
    for frame, thumbnail in zip(ends, scan.ends[::-1], strict=True):
        if frame.shape != (*scan.size, 3) or not looks_like(frame, thumbnail):
            return "decord shows another picture"
    return None


def _open_reader(path: Path) -> Any:
    decord = import_decord()
    # An absolute name is not mistaken for an option nor, if it contains a colon, for a protocol. One thread, in the
    # main process too: with more, decord sometimes fails on sound files ("Error sending packet").
    return decord.VideoReader(str(path.absolute()), num_threads=1)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
