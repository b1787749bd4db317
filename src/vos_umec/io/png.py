"""The usual mask file, an 8-bit indexed PNG: its palettes, and a decoder about ten times faster than Pillow's."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

import deflate
import numpy as np
import numpy.typing as npt
from PIL import Image

Colors = npt.NDArray[np.uint8]

DAVIS_COLORS = 22  # ids with a color of their own in DAVIS 2017; the palette gives all others their number as grey

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PLAIN = (8, 3, 0, 0, 0)  # 8 bits, color type "indexed", the only compression and filter method, no interlacing
_MOST_PIXELS = 2**26  # a header may state any size, and memory is allocated before anything is unpacked


def davis_palette() -> Colors:
    """The palette of the DAVIS 2017 annotation files: the PASCAL VOC colors with 191 for 192, then greys.

    Returns:
        (256, 3) uint8 RGB, one row per id: black for the background, 21 colors, then greys up to white for 255.

    Example:
        >>> davis_palette()[[0, 1, 2, 9, 200]].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [191, 0, 0], [200, 200, 200]]
    """
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)  # (256, 3)
    colored = voc_palette()[:DAVIS_COLORS]
    palette[:DAVIS_COLORS] = np.where(colored == 192, 191, colored)
    return palette


def voc_palette() -> Colors:
    """The color map of PASCAL VOC, (256, 3) uint8 RGB, which many tools write in place of the DAVIS palette.

    Bits 0, 1 and 2 of an id are the highest bits of red, green and blue; bits 3, 4 and 5 the next ones; and so on.
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for level in range(3):
            bit = (ids >> (3 * level + channel)) & 1
            palette[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return palette


def indexed_png(ids: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of ids (H, W) uint8, with the DAVIS palette; the same ids give the same bytes."""
    image, file = Image.fromarray(ids), BytesIO()
    image.putpalette(davis_palette().tobytes())
    image.save(file, format="PNG", optimize=False)
    return file.getvalue()


def plain_indices(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Indices of an indexed PNG with 8 bits per pixel and unfiltered rows, which Pillow and most tools write.

    A general decoder unpacks row by row. Here the size is known, so the whole image is unpacked at once.

    Returns:
        (H, W) uint8; None for any other file, which a general decoder has to read.

    Source:
        The PNG specification (W3C), sections 5 (chunks), 9 (filters) and 11.2 (the critical chunks).
    """
    chunks = list(_chunks(data))
    kinds = [kind for kind, _ in chunks]
    if kinds[:1] != [b"IHDR"] or kinds[-1] != b"IEND" or b"PLTE" not in kinds or b"acTL" in kinds:
        return None  # acTL: an animation
    try:
        W, H, *layout = struct.unpack(">II5B", chunks[0][1])
    except struct.error:
        return None
    if tuple(layout) != _PLAIN or not 0 < W * H <= _MOST_PIXELS:
        return None
    packed = b"".join(body for kind, body in chunks if kind == b"IDAT")
    try:
        unpacked = deflate.zlib_decompress(packed, H * (W + 1))
    except deflate.DeflateError:
        return None
    if len(unpacked) != H * (W + 1):
        return None
    rows = np.frombuffer(unpacked, np.uint8).reshape(H, W + 1)  # the first byte of a row names its filter
    return None if rows[:, 0].any() else rows[:, 1:].copy()


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk, up to the first that is damaged or incomplete."""
    at = len(_SIGNATURE) if data.startswith(_SIGNATURE) else len(data)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if data[end : end + 4] != zlib.crc32(data[at + 4 : end]).to_bytes(4, "big"):
            return
        yield data[at + 4 : at + 8], data[at + 8 : end]
        at = end + 4
