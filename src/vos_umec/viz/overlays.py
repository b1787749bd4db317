"""Object masks drawn over a frame: translucent colors and bright contours."""

import numpy as np
import numpy.typing as npt

from vos_umec.errors import ConfigError
from vos_umec.io.frames import Frame
from vos_umec.io.png import DAVIS_COLORS, Colors, davis_palette


def overlay(frame: Frame, ids: npt.NDArray[np.integer], alpha: float = 0.5) -> Frame:
    """Draw a mask over a frame: the DAVIS color of each object, and a bright contour around it.

    Args:
        frame: (H, W, 3) uint8 RGB.
        ids: (H, W) object ids 0 to 255; 0 (background) and 255 (void) are not colored.
        alpha: Opacity of the color, 0 (only contours) to 1.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ConfigError: Shapes differ, or a value is out of range.

    Example:
        >>> overlay(np.zeros((8, 8, 3), np.uint8), np.pad(np.ones((4, 4), int), 2), alpha=0.5)[3, 3].tolist()
        [64, 0, 0]
    """
    if ids.ndim == 2 and ids.size and not 0 <= ids.min() <= ids.max() <= 255:
        raise ConfigError(f"ids from {ids.min()} to {ids.max()} have no color: expected 0 to 255")
    palette = davis_palette()
    # The palette gives larger ids dark greys, which are hard to see: they repeat the 21 colors instead.
    larger = np.arange(DAVIS_COLORS, 256)
    palette[larger] = palette[1 + (larger - 1) % (DAVIS_COLORS - 1)]
    labels = np.asarray(ids, np.uint8)
    return paint(frame, labels, palette, (labels != 0) & (labels != 255), alpha)


def paint(
    frame: Frame, labels: npt.NDArray[np.uint8], colors: Colors, shown: npt.NDArray[np.bool_], alpha: float
) -> Frame:
    """Color the regions of a label map (H, W) where `shown` (H, W) is True, and draw a contour around each.

    `colors` (256, 3) uint8 RGB has a row for each label. The rest is as in `overlay`.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or frame.shape[:2] != labels.shape:
        raise ConfigError(
            f"cannot draw a mask of shape {labels.shape} over a frame of shape {frame.shape} and type "
            f"{frame.dtype}: expected (H, W) over (H, W, 3) uint8 of the same size"
        )
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha is {alpha}: expected 0 to 1")
    painted = frame.copy()
    inside = colors[labels[shown]].astype(np.float32)  # (n, 3): often few pixels, so only these become floats
    painted[shown] = (frame[shown] * np.float32(1 - alpha) + alpha * inside).round()
    line = _contours(labels, shown, thickness=max(1, round(min(labels.shape) / 300)))
    edge = colors[labels[line]].astype(np.float32)
    # The region's color at full brightness is visible on dark and on bright frames.
    painted[line] = (edge * (255 / edge.max(axis=1, initial=1.0, keepdims=True))).round()
    return painted


def _contours(labels: npt.NDArray[np.uint8], shown: npt.NDArray[np.bool_], thickness: int) -> npt.NDArray[np.bool_]:
    """Shown pixels (H, W) within `thickness` of another label, up, down, left or right."""
    line = np.zeros(labels.shape, np.bool_)
    for step in range(1, thickness + 1):
        below, above = labels[step:], labels[:-step]
        line[:-step] |= below != above
        line[step:] |= below != above
        right, left = labels[:, step:], labels[:, :-step]
        line[:, :-step] |= right != left
        line[:, step:] |= right != left
    return line & shown
