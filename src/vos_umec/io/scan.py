"""Decode a video file once to learn what it contains. Headers are unreliable: counts of 0, frames never shown."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from vos_umec.errors import VideoReadError
from vos_umec.io.container import FrameWalk, PictureMaker, displayed_size, is_mirrored, open_container
from vos_umec.io.frames import DEFAULT_FPS, Frame, SourceFacts, pack_stamps, resize_frame, resized

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class VideoScan:
    """What decoding a whole file found.

    Args:
        frames: Number of frames that can be decoded, up to the first damage, > 0.
        size: (H, W) of the first frame as displayed.
        fps: Frames per second, measured from the time stamps if there are any.
        times: (frames,) int64 time stamps in the stream's unit. Empty if they cannot identify frames: some are
            missing or do not increase, or the decoder concealed damage.
        keys: Indices of the key frames, ascending.
        damage: FFmpeg's message for the first error, None for an undamaged file.
        one_size: Whether all frames are coded in one size.
        ends: First and last frame as small images, to compare another decoder with.
        mirrored: Whether the frames are displayed mirrored.
    """

    frames: int
    size: tuple[int, int]
    fps: float
    times: npt.NDArray[np.int64]
    keys: tuple[int, ...]
    damage: str | None
    one_size: bool
    ends: tuple[Frame, Frame]
    mirrored: bool


def scan_video(path: Path) -> VideoScan:
    """Decode every frame of a file once, one at a time. The result is cached as long as the file does not change.

    Raises:
        VideoReadError: It is no video, or not one frame of it can be decoded.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise VideoReadError(path, "there is no such file; check the path") from error
    return _scan(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _scan(path: Path, mtime_ns: int, length: int) -> VideoScan:
    container, stream = open_container(path)
    first = last = None
    stamps: list[int | None] = []
    keys = []
    one_size, concealed = True, 0
    with container:
        walk = FrameWalk(container, stream)
        for frame in walk:
            first, last = first or frame, frame
            one_size = one_size and (frame.width, frame.height) == (first.width, first.height)
            if frame.key_frame:
                keys.append(len(stamps))
            concealed += frame.is_corrupt
            stamps.append(frame.pts)
        if first is None or last is None:
            found = f" ({walk.damage})" if walk.damage else ""
            raise VideoReadError(
                path,
                f"not one frame of it can be decoded{found}; the file is empty or broken: replace or remove it",
            )
        if walk.damage and len(stamps) > 1:
            message = "%s is damaged (%s): its first %d frames are used, the rest is left out"
            log.warning(message, path, walk.damage, len(stamps))
        size = displayed_size(first)
        times = _increasing(stamps) if not concealed else np.empty(0, np.int64)
        fps = _frame_rate(times, stream.time_base, stream.average_rate)
        pictures = PictureMaker()
        ends = (_thumbnail(pictures.make(first, size)), _thumbnail(pictures.make(last, size)))
    mirrored = is_mirrored(first)
    return VideoScan(len(stamps), size, fps, times, tuple(keys), walk.damage, one_size, ends, mirrored)


def scan_facts(scan: VideoScan, reader: Literal["decord", "pyav"]) -> SourceFacts:
    """The facts that an index stores of a scan, with the reader that is right for the file."""
    return SourceFacts(reader, scan.frames, scan.size, scan.fps, scan.keys, pack_stamps(scan.times))


def looks_like(frame: Frame, thumbnail: Frame) -> bool:
    """Whether a frame (H, W, 3) of another decoder shows the same image as one of `VideoScan.ends`.

    They may differ by less than 4 grey levels on average, as rounding and dithering do.
    """
    small = _thumbnail(frame)
    if small.shape != thumbnail.shape:
        return False
    return bool(np.abs(small.astype(np.int16) - thumbnail).mean() < 4)


def _thumbnail(frame: Frame) -> Frame:
    """Small copy of a frame (H, W, 3), its short side at most 32 pixels."""
    size = frame.shape[0], frame.shape[1]
    return resize_frame(frame, resized(size, min(32, *size)))


def _increasing(stamps: list[int | None]) -> npt.NDArray[np.int64]:
    """Time stamps as an array, empty if they cannot identify frames."""
    times = np.array([stamp for stamp in stamps if stamp is not None], np.int64)
    if len(times) < len(stamps) or (np.diff(times) <= 0).any():
        return np.empty(0, np.int64)
    return times


def _frame_rate(times: npt.NDArray[np.int64], unit: Fraction | None, average: Fraction | None) -> float:
    if len(times) > 1 and unit:
        return float((len(times) - 1) / (int(times[-1] - times[0]) * unit))
    return float(average) if average else DEFAULT_FPS
