"""Frames in: one interface to frame folders and video files, and the function that chooses the right reader."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vos_umec.errors import ConfigError, VideoReadError
from vos_umec.io.decord import DecordSource, decord_misreads
from vos_umec.io.endings import PICTURE_SUFFIXES, ending
from vos_umec.io.folder import FolderSource
from vos_umec.io.frames import Frame, SourceFacts
from vos_umec.io.pyav import PyAVSource
from vos_umec.io.scan import scan_facts, scan_video

log = logging.getLogger(__name__)


@runtime_checkable
class FrameSource(Protocol):
    """A video as numbered frames.

    Each process opens the file when it first reads. So a source can be pickled, and can be used in forked workers
    after the parent has used it. It holds no more frames than a read requests.

    Attributes:
        path: The file or folder.
    """

    path: Path

    def __len__(self) -> int:
        """Number of readable frames."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels as displayed, after rotation; pixels are assumed to be square."""
        ...

    @property
    def fps(self) -> float:
        """Frames per second; 24 for a folder."""
        ...

    @property
    def names(self) -> list[str]:
        """Names of the frames: file stems in a folder, five-digit numbers in a video file."""
        ...

    def read(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Frame:
        """Read frames.

        Args:
            indices: T frame numbers from 0, in any order, with or without repeats.
            size: (H, W) of the result, antialiased; None keeps the size of the video.

        Returns:
            (T, H, W, 3) uint8 RGB in the order of `indices`.

        Raises:
            VideoReadError: A number is out of range, or a frame cannot be decoded.
        """
        ...


OpenedSource = FolderSource | DecordSource | PyAVSource
"""What `open_source` gives: a `FrameSource` with `facts`."""


def open_source(path: str | Path, facts: SourceFacts | None = None) -> OpenedSource:
    """Open a folder of frames or a video file with the reader that is right for it.

    A video file is decoded once from start to end, because its header may state a wrong number of frames. This
    takes about one second per thousand frames at 480p, and the process caches the result. The `facts` of an earlier
    opening save it.

    Whole frames of a video file are read by decord where it gives the same frames as decoding from the start,
    otherwise by PyAV. Frames at another size are read by PyAV, which skips unwanted frames and scales while it
    converts.

    Masks that lie among the frames of a folder are left out, and one line of the log says so.

    Args:
        path: A folder of JPEG or PNG frames, or a video file.
        facts: `source.facts` of an earlier opening of the same, unchanged file.

    Returns:
        A `FrameSource` that also has `facts`.

    Raises:
        VideoReadError: It does not exist, is no video, or not one frame can be decoded.
        DataError: The folder has no images.
        ConfigError: It is no path.
    """
    given: Any = path  # whatever its type says
    if not isinstance(given, str | Path):
        raise ConfigError(f"a video is named by a path; found {type(given).__name__}")
    source = open_unannounced(Path(path), facts)
    if isinstance(source, FolderSource) and facts is None and (masks := source.masks()):
        more = " and so on" if len(masks) > 1 else ""
        log.warning(
            "%d of the pictures in %s look like masks and are no frames: %s%s",
            len(masks),
            path,
            masks[0].name,
            more,
        )
    return source


def open_unannounced(path: Path, facts: SourceFacts | None = None) -> FolderSource | DecordSource | PyAVSource:
    """`open_source`, but nothing is logged of masks among the frames: an index sums that up for all folders."""
    try:
        is_folder, is_there, is_file = path.is_dir(), path.exists(), path.is_file()
    except OSError as error:
        raise VideoReadError(path, f"it cannot be looked at: {error.strerror}") from error
    if is_folder:
        return FolderSource(path, facts)
    if not is_there:
        raise VideoReadError(path, "there is no such file; check the path")
    if not is_file:
        raise VideoReadError(path, "it is neither a file nor a folder; name a video file or a folder of frames")
    if ending(path) in PICTURE_SUFFIXES:
        raise VideoReadError(path, "it is a single picture; name the folder that holds the frames")
    if facts is not None:
        return DecordSource(path, facts) if facts.reader == "decord" else PyAVSource(path, facts)
    scan = scan_video(path)
    reason = decord_misreads(path, scan)
    if reason is not None:
        log.info("%s is read by PyAV: %s", path, reason)
        return PyAVSource(path, scan_facts(scan, "pyav"))
    return DecordSource(path, scan_facts(scan, "decord"))
