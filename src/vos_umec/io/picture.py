"""Opens picture files of strangers: formats that are decoded here, and sizes up to a limit."""

from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from vos_umec.io.text import LFS_ADVICE, is_lfs_pointer

MOST_PIXELS = 2**26
"""Largest picture that is read, in pixels: 8192 x 8192. A small file may state any size, and memory is allocated
for it before anything is unpacked."""

# Pillow tries all formats that it knows, whatever the ending, and for some it starts another program (Ghostscript).
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_MOST_SCANS = 100  # of a JPEG: encoders write about 10, and each costs as much time as the whole picture


def open_picture(file: Path | BinaryIO) -> Image.Image:
    """Open a picture and read its header; pixels are decoded on first use.

    Raises:
        ValueError: The picture is larger than `MOST_PIXELS`.
        OSError: It cannot be read, or is of no format that is read. Broken headers raise SyntaxError and
            struct.error, too.
    """
    if isinstance(file, Path) and not file.is_file():  # a pipe would be waited for
        raise FileNotFoundError("it is no file, or a link that leads nowhere")
    try:
        image = Image.open(file, formats=_formats())
    except UnidentifiedImageError as error:
        if is_lfs_pointer(file):
            raise ValueError(LFS_ADVICE) from error
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"its header states more pixels than are read ({MOST_PIXELS})") from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise ValueError(f"its header states {width} x {height} pixels, more than are read ({MOST_PIXELS})")
    return image


@lru_cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this build of Pillow has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def check_scans(data: bytes) -> None:
    """Refuse a JPEG file whose picture is coded in more passes than any encoder writes, each of a few bytes.

    Raises:
        ValueError: It has more than 100.
    """
    scans = data.count(b"\xff\xda")  # coded data has no such bytes: there, 0 follows ff
    if scans > _MOST_SCANS:
        raise ValueError(f"its picture is coded in {scans} scans, more than are read ({_MOST_SCANS})")
