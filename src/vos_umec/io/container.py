"""One video file as FFmpeg sees it through PyAV: open it, walk its good frames, turn them into pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from vos_umec.errors import VideoReadError
from vos_umec.io.frames import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


def open_container(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a video file and pick its main picture stream.

    Args:
        path: The file.

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
    # One thread: with more, what is made of a damaged picture differs from run to run.
    stream.codec_context.thread_count = 1
    stream.thread_type = "NONE"
    return container, stream


class FrameWalk:
    """The frames of a stream in the order of show, up to the first damage.

    Packets that fail before the first frame are passed over, for a recording may begin between key frames.
    After that, the first packet that fails ends the walk: what a decoder gives behind a hole is guesswork.

    Args:
        container: An open container, at its beginning or just after a seek.
        stream: The stream to decode.

    Attributes:
        damage: FFmpeg's words for what went wrong first, None as long as all is well.

    Example:
        >>> FrameWalk.__iter__.__doc__
        'Yield frames until the end or the first damage.'
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.damage: str | None = None
        self._container = container
        self._stream = stream

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
                frames = self._stream.decode(packet)
            except (av.error.FFmpegError, OSError, ValueError) as error:
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


def to_rgb(frame: VideoFrame, size: tuple[int, int]) -> Frame:
    """Turn a decoded frame into a picture, rotated as the file says it is to be shown.

    Args:
        frame: Any pixel format and bit depth.
        size: Displayed (H, W) of the video; a frame coded in another size is scaled to it.

    Returns:
        (H, W, 3) uint8.

    Example:
        >>> import av
        >>> to_rgb(av.VideoFrame.from_ndarray(np.full((2, 4, 3), 7, np.uint8), "rgb24"), (2, 4)).max()
        np.uint8(7)
    """
    turns = _quarter_turns(frame)
    height, width = size if turns % 2 == 0 else size[::-1]
    picture = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, turns))


def _quarter_turns(frame: VideoFrame) -> int:
    """Quarter turns against the clock that show the frame upright, 0 to 3."""
    return round(frame.rotation / 90) % 4


def _words(error: Exception) -> str:
    """FFmpeg's own words, without its error number and call."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
