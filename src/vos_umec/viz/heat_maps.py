"""Numbers by cell, such as an affinity, as colors over a frame, and a mark on one of its pixels."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vos_umec.errors import ConfigError
from vos_umec.io.frames import Frame
from vos_umec.viz.sheets import check_picture

_STOPS = np.array([(60, 0, 110), (190, 30, 110), (250, 120, 40), (255, 240, 110)], np.float32)
"""Colors of rising heat, dark violet to bright yellow; brightness rises, so that it reads without colors too."""
_DARKENED = 0.55  # brightness of the grey frame below, on which all heat is seen


def heat_map(frame: Frame, heat: npt.NDArray[np.floating], peak: float | None = None) -> Frame:
    """Draw a map of numbers over a frame: the frame dark and grey, and what is high on the map bright.

    Args:
        frame: (H, W, 3) uint8 RGB.
        heat: (h, w) numbers from 0, a value for each cell of a grid over the frame. Below 0 counts as 0.
        peak: What has the brightest color, above 0; None for the map's own largest value. Give several maps the
            same peak to compare them.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ConfigError: A shape is not as above, a number is not finite, or the peak is not above 0.

    Example:
        >>> picture = heat_map(np.zeros((4, 8, 3), np.uint8), np.array([[0.0, 0.5]]))
        >>> picture[0, 0].tolist(), picture[0, 7].tolist()
        ([0, 0, 0], [255, 240, 110])
    """
    check_picture(frame)
    if heat.ndim != 2 or not heat.size or not np.isfinite(heat).all():
        raise ConfigError(f"a heat map of shape {heat.shape}: expected (h, w) finite numbers, one for each cell")
    if peak is not None and not peak > 0:
        raise ConfigError(f"peak is {peak}: expected a number above 0, or None for the map's largest")
    height, width = frame.shape[:2]
    largest = float(heat.max()) if peak is None else peak
    level = (heat / (largest if largest > 0 else 1.0)).clip(0, 1).astype(np.float32)  # (h, w)
    rows = np.arange(height) * heat.shape[0] // height
    columns = np.arange(width) * heat.shape[1] // width
    level = level[rows[:, None], columns]  # (H, W): whole cells, as the network sees no finer
    place = level * (len(_STOPS) - 1)
    lower = place.astype(int).clip(max=len(_STOPS) - 2)
    color = _STOPS[lower] + (place - lower)[..., None] * (_STOPS[lower + 1] - _STOPS[lower])
    grey = _DARKENED * frame.mean(axis=2, keepdims=True, dtype=np.float32)
    opacity = np.sqrt(level)[..., None]  # small values are seen, too
    mixed: Frame = (grey + opacity * (color - grey)).round().astype(np.uint8)
    return mixed


def mark_pixel(frame: Frame, row: int, column: int) -> Frame:
    """Draw a ring around a pixel, white between two black lines, which shows on any picture.

    Args:
        frame: (H, W, 3) uint8 RGB.
        row: Of the pixel, 0 to H - 1.
        column: Of the pixel, 0 to W - 1.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ConfigError: The pixel is outside the frame, or the frame is not as above.

    Example:
        >>> marked = mark_pixel(np.full((60, 80, 3), 128, np.uint8), row=30, column=40)
        >>> marked[30, 40].tolist(), marked[30, 46].tolist()
        ([128, 128, 128], [255, 255, 255])
    """
    check_picture(frame)
    height, width = frame.shape[:2]
    if not (0 <= row < height and 0 <= column < width):
        raise ConfigError(f"pixel ({row}, {column}) is outside a frame of {height} x {width} pixels (row, column)")
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    thick = max(1, round(min(height, width) / 150))
    radius = 6 * thick
    for color, grown, line in ((0, thick, 3 * thick), (255, 0, thick)):
        reach = radius + grown
        draw.ellipse((column - reach, row - reach, column + reach, row + reach), outline=(color,) * 3, width=line)
    return np.array(image)
