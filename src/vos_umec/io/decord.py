"""Importing decord without what it drags along."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vos_umec.errors import VideoReadError
from vos_umec.io.frames import Frame, ProcessHandle, SourceFacts, gather
from vos_umec.io.pyav import PyAVSource
from vos_umec.io.scan import VideoScan, looks_like


def import_decord() -> ModuleType:
    """Import decord for decoding on the CPU, quiet.

    When decord2 is imported it opens every CUDA library that pip has installed, for all of the process. One of
    them, libnvblas, then takes over the BLAS calls of faiss, which ends in a crash. Decoding on the CPU needs none
    of them, so the package ``nvidia``, where it looks for them, is hidden for that moment.

    Returns:
        The module.

    Example:
        >>> import_decord().__name__
        'decord'
    """
    loaded = sys.modules.get("decord")
    if loaded is not None:
        return loaded
    missing = object()
    shown = sys.modules.get("nvidia", missing)
    sys.modules["nvidia"] = None  # type: ignore[assignment]  # what importlib takes for "cannot be found"
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


class DecordSource:
    """A ``FrameSource`` over a sound video file. For one thread at a time.

    decord reads frames at their own size, one after another twice as fast as PyAV. Frames at another size, as
    training clips want them, are left to ``PyAVSource``: decord would decode and hand over whole frames.

    Args:
        path: A video file for which ``decord_misreads`` finds nothing.
        facts: What opening it found.

    Example:
        >>> DecordSource(Path("clip.mp4"), SourceFacts("decord", 80, (480, 854), 24.0)).names[:2]
        ['00000', '00001']
    """

    def __init__(self, path: Path, facts: SourceFacts) -> None:
        self.path = path
        self.facts = facts
        self._reader: ProcessHandle[Any] = ProcessHandle()
        self._scaled = PyAVSource(path, facts)

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
        if size not in (None, self.size):
            return self._scaled.read(indices, size)
        return gather(self.path, len(self), indices, self.size, self._frame)

    def _frame(self, index: int) -> Frame:
        decord = import_decord()
        try:
            picture: Frame = self._reader.get(self._open)[index].asnumpy()
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            self._reader.drop()
            raise VideoReadError(self.path, f"frame {index} cannot be decoded: {_first_line(error)}") from error
        if picture.shape[:2] != self.size:
            raise VideoReadError(
                self.path, f"frame {index} has size {picture.shape[:2]} where {self.size} was expected"
            )
        return picture

    def _open(self) -> Any:
        reader = _open_reader(self.path)
        if len(reader) != len(self):
            raise VideoReadError(
                self.path,
                f"it has {len(reader)} frames where {len(self)} were found before; "
                "the file has changed, index the folder again",
            )
        return reader


def decord_misreads(path: Path, scan: VideoScan) -> str | None:
    """Why decord cannot be trusted with a file.

    decord counts frames that are never shown, takes a key frame's place in the file for its place in the
    video (wrong by frames where groups of pictures are open), and gives an old frame again where time stamps
    do not rise, all without an error. So it reads only files in which none of this can happen.

    Args:
        path: The file.
        scan: What decoding it from the start found.

    Returns:
        The reason in words, None if decord gives the same frames.

    Example:
        >>> import numpy as np
        >>> black = np.zeros((8, 8, 3), np.uint8)
        >>> scan = VideoScan(2, (8, 8), 24.0, np.arange(2), (0,), "bad packet", True, (black, black))
        >>> decord_misreads(Path("clip.mp4"), scan)
        'the file is damaged'
    """
    decord = import_decord()
    if scan.damage:
        return "the file is damaged"
    if scan.frames == 1:
        return "one frame needs no jumping about"
    if not len(scan.times):
        return "time stamps do not rise, or pictures are damaged"
    if not scan.one_size:
        return "frames change their size"
    if scan.mirrored:
        return "decord does not mirror"
    try:
        reader = _open_reader(path)
        if len(reader) != scan.frames:
            return f"decord counts {len(reader)} frames, {scan.frames} can be decoded"
        if not set(reader.get_key_indices()) <= set(scan.keys):
            return "decord places key frames wrongly"
        ends = (reader[scan.frames - 1].asnumpy(), reader[0].asnumpy())  # the last one first: a real jump
    except (decord.DECORDError, RuntimeError, IndexError, UnicodeEncodeError) as error:  # a name that is no text
        return _first_line(error)
    for picture, thumbnail in zip(ends, scan.ends[::-1], strict=True):
        if picture.shape != (*scan.size, 3) or not looks_like(picture, thumbnail):
            return "decord shows another picture"
    return None


def _open_reader(path: Path) -> Any:
    decord = import_decord()
    # An absolute name can be taken neither for an option nor, if it holds a colon, for a protocol.
    # One thread, in the main process too: with more, decord trips over some sound files ("Error sending
    # packet", -11), sometimes.
    return decord.VideoReader(str(path.absolute()), num_threads=1)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
