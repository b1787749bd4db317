"""Space-time segments of a video as an image: frames above, colored segments below."""

import colorsys

import numpy as np
import numpy.typing as npt

from vos_umec.constants import IGNORE
from vos_umec.errors import ConfigError
from vos_umec.io.frames import Frame
from vos_umec.io.png import Colors
from vos_umec.viz.overlays import paint
from vos_umec.viz.sheets import contact_sheet

_COLUMNS = 6
_GOLDEN = 0.618033988749895  # hues at steps of the golden ratio differ well from all recent ones


def segment_colors() -> Colors:
    """Colors of the segments 0 to 255, (256, 3) uint8 RGB; consecutive numbers differ much in hue."""
    colors = np.zeros((256, 3), np.uint8)
    for segment in range(256):
        value = (1.0, 0.8, 0.6)[segment // 8 % 3]
        red, green, blue = colorsys.hsv_to_rgb(segment * _GOLDEN % 1.0, 0.9, value)
        colors[segment] = round(255 * red), round(255 * green), round(255 * blue)
    return colors


def segment_sheet(frames: Frame, segments: npt.NDArray[np.integer]) -> Frame:
    """Draw the segments of a video over up to six frames: the first, the last, and others evenly between them.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        segments: (T, H, W) segment numbers from 0; 255 (unknown) is not colored.

    Returns:
        (H', W', 3) uint8 RGB: a row of frames, below it the same frames with their segments.

    Raises:
        ConfigError: Shapes do not match, or numbers are out of range.
    """
    if frames.ndim != 4 or frames.shape[:3] != segments.shape or not len(frames):
        raise ConfigError(
            f"frames of shape {frames.shape} with segments of shape {segments.shape}: "
            "expected (T, H, W, 3) with (T, H, W), at least one frame"
        )
    if segments.min() < 0 or segments.max() > IGNORE:
        raise ConfigError(f"segments from {segments.min()} to {segments.max()}: expected 0 to 255")
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_COLUMNS, len(frames))).round().astype(int))
    labels = segments.astype(np.uint8)
    colors = segment_colors()
    painted = [paint(frames[t], labels[t], colors, labels[t] != IGNORE, alpha=0.55) for t in chosen]
    return contact_sheet([[frames[t] for t in chosen], painted])
