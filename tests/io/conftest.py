"""Clips whose every frame shows its own number, so that a frame taken for another is noticed."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 8
HEIGHT, WIDTH = 48, 64


def numbered_frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W, 3) uint8: the upper half shows the number as 8 upright bars, the lower half is noise of its own."""
    frame = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    frame //= 4
    for bit in range(BITS):
        frame[: height // 2, bit * width // BITS : (bit + 1) * width // BITS] = 230 if number >> bit & 1 else 20
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number a frame shows, whatever its size."""
    height, width = frame.shape[:2]
    row = frame[height // 4].mean(axis=-1)
    return sum(1 << bit for bit in range(BITS) if row[(2 * bit + 1) * width // (2 * BITS)] > 125)


@pytest.fixture
def numbers() -> Callable[[np.ndarray], list[int]]:
    return lambda frames: [number_of(frame) for frame in frames]


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    return numbered_frame


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Write a clip with FFmpeg's own settings, apart from the package's writer."""

    def make(
        name: str = "clip.mp4",
        frames: int = 60,
        codec: str = "libx264",
        gop: int = 250,
        size: tuple[int, int] = (HEIGHT, WIDTH),
        options: dict[str, str] | None = None,
        pixels: str = "yuv420p",
    ) -> Path:
        path = tmp_path / name
        with av.open(f"file:{path}", "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, pixels
            stream.codec_context.gop_size = gop
            stream.options = {"crf": "12"} if options is None else options
            for number in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number, *size), "rgb24")))
            container.mux(stream.encode(None))
        return path

    return make
