"""Images in a grid, and images in files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vos_umec.errors import ConfigError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.frames import Frame, resize_frame

_GAP = 4
_BACKGROUND = (255, 255, 255)
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def contact_sheet(
    rows: Sequence[Sequence[Frame]], labels: Sequence[Sequence[str]] | None = None, width: int = 1600
) -> Frame:
    """Arrange images in rows on one white sheet.

    All columns have the same width. A row is as high as its highest image. Rows may differ in length.

    Args:
        rows: Rows of images, each (H, W, 3) uint8 RGB.
        labels: A text for each image, in rows of the same lengths, written in its upper left corner; "" for none.
        width: Width of the sheet in pixels, at least 16 per column.

    Returns:
        (H, `width`, 3) uint8 RGB.

    Raises:
        ConfigError: There is no image, an image has another shape or type, or labels do not match.
    """
    columns = max((len(row) for row in rows), default=0)
    _check(rows, labels, columns, width)
    cell = (width - (columns + 1) * _GAP) // columns
    scaled = [[_fit(picture, cell) for picture in row] for row in rows]
    heights = [max((picture.shape[0] for picture in row), default=0) for row in scaled]
    sheet = Image.new("RGB", (width, sum(heights) + (len(heights) + 1) * _GAP), _BACKGROUND)
    top = _GAP
    for place, (row, height) in enumerate(zip(scaled, heights, strict=True)):
        for column, picture in enumerate(row):
            left = _GAP + column * (cell + _GAP)
            sheet.paste(Image.fromarray(picture), (left, top))
            if labels is not None:
                _write(sheet, (left, top), labels[place][column], cell)
        top += height + _GAP
    return np.asarray(sheet)


def save_picture(path: str | Path, image: Frame) -> None:
    """Write an image to a file, which appears complete or not at all.

    Args:
        path: A name that ends in `.png`, `.jpg` or `.jpeg`; its folder is created if needed.
        image: (H, W, 3) uint8 RGB.

    Raises:
        ConfigError: The name, the shape or the type is not as above.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"cannot write a picture to {path}: expected a name that ends in {', '.join(_FORMATS)}")
    check_picture(image)
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format=_FORMATS[path.suffix.lower()], quality=92)


def _fit(picture: Frame, cell: int) -> Frame:
    """Scale an image to the width of a cell."""
    height, width = picture.shape[:2]
    return resize_frame(picture, (max(1, round(height * cell / width)), cell))


def _write(sheet: Image.Image, corner: tuple[int, int], text: str, cell: int) -> None:
    """Write white letters on a black box, readable on any image."""
    if not text:
        return
    font = ImageFont.load_default(size=max(10, min(18, cell // 12)))
    draw = ImageDraw.Draw(sheet)
    left, top = corner[0] + 4, corner[1] + 3
    box = draw.textbbox((left, top), text, font=font)
    draw.rectangle((corner[0], corner[1], box[2] + 4, box[3] + 3), fill=(0, 0, 0))
    draw.text((left, top), text, font=font, fill=(255, 255, 255))


def _check(
    rows: Sequence[Sequence[Frame]], labels: Sequence[Sequence[str]] | None, columns: int, width: int
) -> None:
    if not columns:
        raise ConfigError("a contact sheet has no pictures: expected at least one")
    if width < 16 * columns:
        raise ConfigError(f"width is {width} for {columns} columns: expected at least 16 pixels per column")
    for row in rows:
        for picture in row:
            check_picture(picture)
    if labels is not None and [len(row) for row in rows] != [len(row) for row in labels]:
        raise ConfigError(
            f"labels have rows of {[len(row) for row in labels]}, pictures rows of {[len(row) for row in rows]}: "
            "expected one text per picture"
        )


def check_picture(picture: Frame) -> None:
    """Refuse, with a ConfigError, what is no picture (H, W, 3) uint8."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ConfigError(f"a picture of shape {picture.shape} and type {picture.dtype}: expected (H, W, 3) uint8")
