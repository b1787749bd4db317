"""Write frames to a video file, h264 in mp4."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np

from vos_umec.errors import ConfigError, DataError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.frames import Frame

SLOWEST, FASTEST = Fraction(1, 1001), 10**6
"""Frames per second that a file can state; players leave out frames above what they can show."""


class VideoWriter:
    """Writes frames one by one to an mp4 file that every player opens (yuv420p); use it in a `with` block.

    The file appears, complete, when the block ends without an error. yuv420p needs even sides: the last row or
    column of an odd side is repeated.

    Args:
        path: A name that ends in `.mp4`; its folder is created if needed.
        fps: Frames per second, from 1/1001, which is a frame in 17 minutes, to a million.
        gop: Most frames between key frames, >= 1. Few make seeking fast, many make the file small.

    Raises:
        ConfigError: A setting is out of range, or frames differ in size or type.
        DataError: The block ends without a frame.
    """

    def __init__(self, path: str | Path, fps: float, gop: int = 24) -> None:
        self._path = Path(path)
        if self._path.suffix.lower() != ".mp4":
            raise ConfigError(f"cannot write a video to {path}: expected a name that ends in .mp4")
        if not SLOWEST <= fps <= FASTEST:
            raise ConfigError(f"fps is {fps}: expected a rate from 1/1001 to a million")
        if gop < 1:
            raise ConfigError(f"gop is {gop}: expected at least 1 frame")
        self._fps = Fraction(fps).limit_denominator(1001)  # 23.976 and similar rates become n / 1001
        self._gop = gop
        self._shape: tuple[int, ...] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        import av

        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._path))
            self._container = stack.enter_context(av.open(str(temporary.absolute()), "w", format="mp4"))
            self._stack = stack.pop_all()
        return self

    def write(self, frame: Frame) -> None:
        """Append a frame (H, W, 3) uint8 RGB of the size of the first one."""
        import av

        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise ConfigError(
                f"cannot write a frame of shape {frame.shape} and type {frame.dtype} to {self._path}: "
                "expected (H, W, 3) uint8"
            )
        height, width = frame.shape[:2]
        if self._shape is None:
            self._begin(height + height % 2, width + width % 2)
            self._shape = frame.shape
        if frame.shape != self._shape:
            raise ConfigError(
                f"cannot write a frame of shape {frame.shape} to {self._path}: the first had {self._shape}"
            )
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def _begin(self, height: int, width: int) -> None:
        stream = self._container.add_stream("libx264", rate=self._fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.gop_size = self._gop
        stream.options = {"crf": "18", "preset": "veryfast"}
        self._stream = stream

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._stack:
            if error is not None:
                raise error  # removes the unfinished file
            if self._shape is None:
                raise DataError(f"no frame was written to {self._path}: a video needs at least one")
            self._container.mux(self._stream.encode(None))
