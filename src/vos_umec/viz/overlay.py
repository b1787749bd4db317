"""Object ids laid over a frame in translucent colors."""

import numpy as np
import numpy.typing as npt

from vos_umec.errors import ConfigError
from vos_umec.io.frames import Frame
from vos_umec.io.png import Colors, davis_palette


def overlay(frame: Frame, ids: npt.NDArray[np.integer], alpha: float = 0.5) -> Frame:
    """Lay a mask over a frame: the DAVIS color of each object and a bright line around it.

    Args:
        frame: (H, W, 3) uint8.
        ids: (H, W) object ids 0 to 255; 0 (background) and 255 (unknown) stay uncolored.
        alpha: Share of the color, 0 (contours alone) to 1.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ConfigError: Shapes differ, or a value is out of range.

    Example:
        >>> overlay(np.zeros((8, 8, 3), np.uint8), np.pad(np.ones((4, 4), int), 2), alpha=0.5)[3, 3].tolist()
        [64, 0, 0]
    """
    if ids.ndim == 2 and ids.size and not 0 <= ids.min() <= ids.max() <= 255:
        raise ConfigError(f"ids from {ids.min()} to {ids.max()} have no color: expected 0 to 255")
    palette = davis_palette()
    # Ids beyond the colored ones would be as good as black; they take the colors in turn.
    palette[22:] = palette[1 + np.arange(22 - 1, 255) % 21]
    labels = np.asarray(ids, np.uint8)
    return paint(frame, labels, palette, (labels != 0) & (labels != 255), alpha)


def paint(
    frame: Frame,
    labels: npt.NDArray[np.uint8],
    colors: Colors,
    shown: npt.NDArray[np.bool_],
    alpha: float,
) -> Frame:
    """Color the regions of a label map and draw a line around each.

    Args:
        frame: (H, W, 3) uint8.
        labels: (H, W) uint8.
        colors: (256, 3) uint8, the color of each label.
        shown: (H, W), True where a label is to be colored.
        alpha: Share of the color, 0 to 1.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ConfigError: Shapes differ, or ``alpha`` is out of range.

    Example:
        >>> white, labels = np.full((4, 4, 3), 255, np.uint8), np.zeros((4, 4), np.uint8)
        >>> paint(white, labels, np.zeros((256, 3), np.uint8), labels == 0, alpha=1.0).max()
        np.uint8(0)
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or frame.shape[:2] != labels.shape:
        raise ConfigError(
            f"cannot lay a mask of shape {labels.shape} over a frame of shape {frame.shape} and type "
            f"{frame.dtype}: expected (H, W) over (H, W, 3) uint8 of the same size"
        )
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha is {alpha}: expected 0 to 1")
    painted = frame.copy()
    inside = colors[labels[shown]].astype(np.float32)  # (n, 3): few pixels are shown, so only those become floats
    painted[shown] = (frame[shown] * np.float32(1 - alpha) + alpha * inside).round()
    line = _contours(labels, shown, thickness=max(1, round(min(labels.shape) / 300)))
    edge = colors[labels[line]].astype(np.float32)
    # The region's color brought to full strength: seen on dark frames and bright ones, and still its own.
    painted[line] = (edge * (255 / edge.max(axis=1, initial=1.0, keepdims=True))).round()
    return painted


def _contours(labels: npt.NDArray[np.uint8], shown: npt.NDArray[np.bool_], thickness: int) -> npt.NDArray[np.bool_]:
    """Shown pixels (H, W) within ``thickness`` of a pixel with another label, up, down, left or right."""
    line = np.zeros(labels.shape, np.bool_)
    for step in range(1, thickness + 1):
        below, above = labels[step:], labels[:-step]
        line[:-step] |= below != above
        line[step:] |= below != above
        right, left = labels[:, step:], labels[:, :-step]
        line[:, :-step] |= right != left
        line[:, step:] |= right != left
    return line & shown
