"""One video file through PyAV: open it, decode its undamaged frames, convert them to RGB."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vos_umec.errors import VideoReadError
from vos_umec.io.frames import Frame, report_progress
from vos_umec.io.text import LFS_ADVICE, is_lfs_pointer

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MOST_PIXELS = 8192 * 4352
"""Largest picture of a video that is read, in pixels: 8K. A header may state any size, and memory is allocated for
it before anything is decoded; a decoder keeps up to 17 pictures."""

_MOST_THREADS = 5  # each keeps a few frames in memory, in every open video
_LIMITS = {"max_pixels": str(MOST_PIXELS)}
_PATIENCE = 15.0  # seconds for opening a file and for reading a packet; some headers send FFmpeg round in circles


def available_cores() -> int:
    """Number of cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoding_threads() -> int:
    """Number of threads that decode an undamaged video in this process.

    One per core and one that waits for them, 5 at most. In a process started through `multiprocessing`, such as a
    loader worker, it is 1: the workers already share the cores.
    """
    if multiprocessing.parent_process() is not None:
        return 1
    cores = available_cores()
    return 1 if cores == 1 else min(cores + 1, _MOST_THREADS)


def open_container(path: Path, threads: int = 1) -> tuple[InputContainer, VideoStream]:
    """Open a video file and choose its main video stream; the caller closes the container.

    With more than one decoding thread, damaged frames differ from run to run, and the frame before the damage can
    be lost.

    Raises:
        VideoReadError: The file is no video, has no video stream, its codec is unknown, or its pictures have more
            than `MOST_PIXELS`.
    """
    import av

    try:
        container = av.open(
            # An absolute name is not mistaken for an option nor, if it contains a colon, for a protocol.
            str(path.absolute()),
            metadata_errors="replace",
            # A playlist with the name of a video must not open network addresses.
            options={"protocol_whitelist": "file", **_LIMITS},
            timeout=_PATIENCE,
        )
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        reason = f"FFmpeg does not know it as a video ({_message(error)}); check that the file is complete"
        if path.is_file() and is_lfs_pointer(path):
            reason = LFS_ADVICE
        raise VideoReadError(path, reason) from error
    if container.format.name == "tty" or container.format.name.endswith("_pipe"):
        container.close()  # FFmpeg would render a text file as a video
        raise VideoReadError(path, "it is a text or a single picture; expected a video file or a folder of frames")
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        container.close()
        raise VideoReadError(path, "it holds no moving picture; expected a file with a video stream")
    if cast("VideoCodecContext | None", stream.codec_context) is None:
        container.close()
        raise VideoReadError(path, "its codec is unknown to this FFmpeg; convert it to h264 in mp4")
    height, width = stream.codec_context.height, stream.codec_context.width
    if height * width > MOST_PIXELS:
        container.close()
        raise VideoReadError(
            path,
            f"its header states {width} x {height} pixels, more than are read ({MOST_PIXELS}, 8K); scale it down",
        )
    stream.codec_context.options = _LIMITS  # for pictures that grow later
    stream.codec_context.thread_count = threads
    stream.thread_type = "NONE" if threads == 1 else "FRAME"
    return container, stream


class FrameWalk:
    """Iterates over the frames of a stream in display order, up to the first damage.

    Packets that fail before the first frame are skipped, since a recording may begin between key frames. After
    that, the first packet that fails ends the walk: later frames may be wrong.

    Args:
        container: An open container, at its start or just after a seek.
        stream: The stream to decode.
        skips: Whether the frame of a packet is not wanted. It is then decoded only if other frames refer to it.

    Attributes:
        damage: FFmpeg's message for the first error; None if there was none so far.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        skips: Callable[[Packet[VideoStream]], bool] | None = None,
    ) -> None:
        self.damage: str | None = None
        self._container = container
        self._stream = stream
        self._skips = skips

    def __iter__(self) -> Iterator[VideoFrame]:
        """Yield frames until the end or the first damage."""
        import av

        begun = False
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if self._skips is not None:
                    skipped = self._skips(packet)
                    self._stream.codec_context.skip_frame = "NONREF" if skipped else "DEFAULT"
                frames = self._stream.decode(packet)
            except (av.error.FFmpegError, OSError, ValueError, IndexError, MemoryError) as error:
                # IndexError: PyAV, where noise in a transport stream looks like another stream.
                self.damage = self.damage or _message(error)
                if begun:
                    return
                continue
            begun = begun or bool(frames)
            if frames:
                report_progress()
            yield from frames


class PictureMaker:
    """Converts decoded frames to RGB at any size, rotated and mirrored as the file says.

    FFmpeg's swscale scales and converts in one step: a bilinear filter, antialiased like Pillow's, on the planes
    of the video before they become RGB. Against Pillow on full-size RGB the difference is 45 to 51 dB; without
    scaling there is none.

    Args:
        full_colors: Scale colors for every pixel of the result, as JPEG decoders do, not for every second one of
        a row.
    """

    def __init__(self, full_colors: bool = False) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self._how = Interpolation.BILINEAR | (Interpolation.FULL_CHR_H_INT if full_colors else 0)
        self._reformatter = VideoReformatter()  # keeps its filters as long as sizes stay the same

    def make(self, frame: VideoFrame, size: tuple[int, int]) -> Frame:
        """Convert a frame of any pixel format and bit depth to (H, W, 3) uint8 of `size` (H, W), after rotation."""
        turns = _quarter_turns(frame)
        height, width = size if turns % 2 == 0 else size[::-1]
        # One thread: swscale's own threads do not survive a fork, and freeing it in the child would wait for them.
        scaled = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=self._how, threads=1)
        pixels = scaled.to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels[::-1] if is_mirrored(frame) else pixels, turns))


def displayed_size(frame: VideoFrame) -> tuple[int, int]:
    """(H, W) of a decoded frame after its rotation."""
    sideways = _quarter_turns(frame) % 2 == 1
    return (frame.width, frame.height) if sideways else (frame.height, frame.width)


def is_mirrored(frame: VideoFrame) -> bool:
    """Whether the display matrix of a decoded frame flips it, top to bottom, before its rotation."""
    kept: Any = frame.side_data  # PyAV's types know only a part of it
    try:
        matrix = kept["DISPLAYMATRIX"]
    except KeyError:
        return False
    a, b, _, c, d = memoryview(matrix).cast("B").cast("i")[:5]  # of 3 x 3, fixed point
    return bool(a * d < b * c)


def _quarter_turns(frame: VideoFrame) -> int:
    """Counterclockwise quarter turns that show the frame upright, 0 to 3."""
    return round(frame.rotation / 90) % 4


def _message(error: Exception) -> str:
    """FFmpeg's own message, without its error number and call."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
