"""One video file as FFmpeg sees it through PyAV: open it, walk its good frames, turn them into pictures."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vos_umec.errors import VideoReadError
from vos_umec.io.frames import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


_MOST_THREADS = 5  # each keeps a few frames for itself, in every open video


def decoding_threads() -> int:
    """How many threads decode a sound video here: one a core, and one to wait for them, which FFmpeg takes as well.

    In a process that another one started through ``multiprocessing``, as loader workers are, it is one: the workers
    share the cores already, and more threads would only take turns.

    Returns:
        1 to 5.

    Example:
        >>> 1 <= decoding_threads() <= 5
        True
    """
    if multiprocessing.parent_process() is not None:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if cores == 1 else min(cores + 1, _MOST_THREADS)


def open_container(path: Path, threads: int = 1) -> tuple[InputContainer, VideoStream]:
    """Open a video file and pick its main picture stream.

    Args:
        path: The file.
        threads: Threads that decode, several frames at once. With more than one, what is made of a damaged picture
            differs from run to run, and the frame before it can be lost.

    Returns:
        Container and stream; the caller closes the container.

    Raises:
        VideoReadError: The file is no video, or has no picture stream, or its codec is unknown.

    Example:
        >>> open_container(Path("no/such.mp4"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.VideoReadError: cannot read no/such.mp4: FFmpeg does not know it as a video (No such...
    """
    import av

    try:
        container = av.open(
            # An absolute name can be taken neither for an option nor, if it holds a colon, for a protocol.
            str(path.absolute()),
            metadata_errors="replace",
            # A playlist that calls itself a video must not reach for the network.
            options={"protocol_whitelist": "file"},
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = f"FFmpeg does not know it as a video ({_words(error)}); check that the file is whole"
        raise VideoReadError(path, reason) from error
    if container.format.name == "tty" or container.format.name.endswith("_pipe"):
        container.close()  # FFmpeg would show a text as a film of it
        raise VideoReadError(path, "it is a text or a single picture; expected a video file or a folder of frames")
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        container.close()
        raise VideoReadError(path, "it holds no moving picture; expected a file with a video stream")
    if cast("VideoCodecContext | None", stream.codec_context) is None:
        container.close()
        raise VideoReadError(path, "its codec is unknown to this FFmpeg; convert it to h264 in mp4")
    stream.codec_context.thread_count = threads
    stream.thread_type = "NONE" if threads == 1 else "FRAME"
    return container, stream


class FrameWalk:
    """The frames of a stream in the order of show, up to the first damage.

    Packets that fail before the first frame are passed over, for a recording may begin between key frames.
    After that, the first packet that fails ends the walk: what a decoder gives behind a hole is guesswork.

    Args:
        container: An open container, at its beginning or just after a seek.
        stream: The stream to decode.
        passes_over: Says of a packet that its frame is not wanted. Such a frame is decoded only if others are
            made from it, and else left out of the walk.

    Attributes:
        damage: FFmpeg's words for what went wrong first, None as long as all is well.

    Example:
        >>> FrameWalk.__iter__.__doc__
        'Yield frames until the end or the first damage.'
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        passes_over: Callable[[Packet[VideoStream]], bool] | None = None,
    ) -> None:
        self.damage: str | None = None
        self._container = container
        self._stream = stream
        self._passes_over = passes_over

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
                if self._passes_over is not None:
                    passed = self._passes_over(packet)
                    self._stream.codec_context.skip_frame = "NONREF" if passed else "DEFAULT"
                frames = self._stream.decode(packet)
            except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
                # IndexError: PyAV, where noise in a transport stream looks like one stream more.
                self.damage = self.damage or _words(error)
                if begun:
                    return
                continue
            begun = begun or bool(frames)
            yield from frames


def displayed_size(frame: VideoFrame) -> tuple[int, int]:
    """(H, W) of a decoded frame after its rotation.

    Example:
        >>> import av
        >>> displayed_size(av.VideoFrame(64, 48, "rgb24"))
        (48, 64)
    """
    sideways = _quarter_turns(frame) % 2 == 1
    return (frame.width, frame.height) if sideways else (frame.height, frame.width)


class PictureMaker:
    """Turns decoded frames into pictures, rotated and mirrored as the file says they are to be shown.

    Scaling and conversion to RGB are one step of FFmpeg's swscale: its bilinear filter, whose support grows with
    the scale as Pillow's does, on the planes of the video before they become RGB. Against full-size RGB scaled by
    Pillow the difference is at 45 to 51 dB; without scaling there is none.

    Args:
        full_colors: Scale colors to every pixel of the result, not to every second one of a row: JPEG decoders
            do, FFmpeg does not for video.

    Example:
        >>> import av
        >>> grey = av.VideoFrame.from_ndarray(np.full((4, 8, 3), 7, np.uint8), "rgb24")
        >>> PictureMaker().make(grey, (2, 4)).tolist() == np.full((2, 4, 3), 7).tolist()
        True
    """

    def __init__(self, full_colors: bool = False) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self._how = Interpolation.BILINEAR | (Interpolation.FULL_CHR_H_INT if full_colors else 0)
        self._reformatter = VideoReformatter()  # keeps its filters as long as sizes stay the same

    def make(self, frame: VideoFrame, size: tuple[int, int]) -> Frame:
        """Make one picture.

        Args:
            frame: Any pixel format and bit depth.
            size: (H, W) of the result, after rotation.

        Returns:
            (H, W, 3) uint8.
        """
        turns = _quarter_turns(frame)
        height, width = size if turns % 2 == 0 else size[::-1]
        # One thread: swscale's own would be missing after a fork, and freeing it there would wait for them.
        picture = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=self._how, threads=1)
        pixels = picture.to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels[::-1] if is_mirrored(frame) else pixels, turns))


def is_mirrored(frame: VideoFrame) -> bool:
    """Whether a frame is to be shown mirrored: top to bottom, and then rotated.

    Args:
        frame: A decoded frame, with the display matrix of its file.

    Example:
        >>> import av
        >>> is_mirrored(av.VideoFrame(64, 48, "rgb24"))
        False
    """
    kept: Any = frame.side_data  # PyAV's types know a part of it
    try:
        matrix = kept["DISPLAYMATRIX"]
    except KeyError:
        return False
    a, b, _, c, d = memoryview(matrix).cast("B").cast("i")[:5]  # of 3 x 3, fixed point
    return bool(a * d < b * c)


def _quarter_turns(frame: VideoFrame) -> int:
    """Quarter turns against the clock that show the frame upright, 0 to 3."""
    return round(frame.rotation / 90) % 4


def _words(error: Exception) -> str:
    """FFmpeg's own words, without its error number and call."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
