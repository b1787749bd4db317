from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FrameFolder = Callable[..., Path]


@pytest.fixture
def frame_folder() -> FrameFolder:
    """Writes a frame folder whose pixels say where they are: red is the frame, green the row, blue the column."""

    def write(
        folder: Path, frames: int = 9, size: tuple[int, int] = (20, 30), step: int = 1, first: int = 0
    ) -> Path:
        folder.mkdir(parents=True)
        rows, columns = np.indices(size)
        for t in range(frames):
            pixels = np.stack([np.full(size, first + t), rows, columns], axis=-1).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{t * step:05d}.png")
        return folder

    return write
