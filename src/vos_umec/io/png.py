"""The usual mask file, an 8-bit indexed PNG, decoded some ten times faster than by a general decoder."""

import struct
import zlib
from collections.abc import Iterator

import deflate
import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PLAIN = (8, 3, 0, 0, 0)  # bits, color type "indexed", and the only compression, filters and no interlacing
_MOST_PIXELS = 2**26  # a header may claim any size, and its memory is taken before a byte is unpacked


def plain_indices(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Indices of an indexed PNG with 8 bits a pixel and unfiltered rows: what Pillow, and so most tools, write.

    A general decoder unpacks row by row; here the size is known, so the whole picture is unpacked in one go.

    Args:
        data: A file.

    Returns:
        (H, W) uint8; None for any other picture, damaged ones included, which a general decoder has to judge.

    Source:
        The PNG specification (W3C), sections 5 (chunks), 9 (filters) and 11.2 (the critical chunks).

    Example:
        >>> import io
        >>> from PIL import Image
        >>> image, file = Image.new("P", (3, 2), color=7), io.BytesIO()
        >>> image.putpalette(bytes(768))
        >>> image.save(file, format="PNG")
        >>> plain_indices(file.getvalue()).tolist()
        [[7, 7, 7], [7, 7, 7]]
        >>> plain_indices(file.getvalue()[:-20]) is None
        True
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
    """Kind and content of each chunk, up to the first that is damaged or cut off."""
    at = len(_SIGNATURE) if data.startswith(_SIGNATURE) else len(data)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if data[end : end + 4] != zlib.crc32(data[at + 4 : end]).to_bytes(4, "big"):
            return
        yield data[at + 4 : at + 8], data[at + 8 : end]
        at = end + 4


Colors = npt.NDArray[np.uint8]

# The annotations of DAVIS 2017 color these many ids; all further ones are the grey of their own number.
DAVIS_COLORS = 22


def davis_palette() -> Colors:
    """The palette inside the annotation files of DAVIS 2017.

    Returns:
        (256, 3) uint8 RGB, one row per id: black for the background, 21 colors, then greys up to white for 255.

    Source:
        The PNG files of the DAVIS 2017 download, reproduced by rule: the color map of PASCAL VOC with 191
        for 192 in the first 22 rows.

    Example:
        >>> davis_palette()[[0, 1, 2, 9, 200]].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [191, 0, 0], [200, 200, 200]]
    """
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)  # (256, 3)
    colored = voc_palette()[:DAVIS_COLORS]
    palette[:DAVIS_COLORS] = np.where(colored == 192, 191, colored)
    return palette


def voc_palette() -> Colors:
    """The color map of PASCAL VOC, which many tools of this field write in place of the DAVIS palette.

    Returns:
        (256, 3) uint8 RGB. Bits 0, 1 and 2 of an id are the highest bits of red, green and blue, bits 3, 4 and
        5 the next ones, bits 6 and 7 those after.

    Source:
        The PASCAL VOC development kit.

    Example:
        >>> voc_palette()[[1, 2, 9, 255]].tolist()
        [[128, 0, 0], [0, 128, 0], [192, 0, 0], [224, 224, 192]]
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for level in range(3):
            bit = (ids >> (3 * level + channel)) & 1
            palette[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return palette
