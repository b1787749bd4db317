"""What grey values and colours of a mask mean, and how to say that they mean nothing certain."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from vos_umec.errors import MaskError
from vos_umec.io.palette import DAVIS_COLOURS, davis_palette, voc_palette

Ids = npt.NDArray[np.uint8]

# Grey values up to here are ids. The darkest colour of an object turned grey is 15 (dark blue), and the soft edge
# of an object takes every value up to its grey, so more cannot be told from a flattened or softened picture.
_SURE_GREY_ID = 10
# Colours of ids up to here are at full strength. Beyond, a colour may be a blend of two others at an edge, unless
# all ids before it are there too.
_SURE_COLOUR_ID = 7
_VOID = 255


def grey_ids(values: npt.NDArray[np.integer], white: int, path: Path) -> Ids:
    """Read grey values as ids where they can be nothing else.

    Certain are: black and white (white is object 1), and ids up to 10; 255 beside such ids stays 255 (unknown).

    Args:
        values: (H, W) grey values, >= 0.
        white: The largest value a pixel of this kind can have: 1, 255 or 65535.
        path: The file, for the message.

    Returns:
        (H, W) uint8 ids.

    Raises:
        MaskError: Any other values; the message says how to mend the file.

    Example:
        >>> grey_ids(np.array([[0, 255]]), 255, Path("mask.png")).tolist()
        [[0, 1]]
        >>> grey_ids(np.array([[0, 97, 255]]), 255, Path("mask.png"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.MaskError: the mask mask.png has 3 grey values (0, 97, 255) that may be no object ids: ...
    """
    present = np.unique(values)
    if set(present.tolist()) <= {0, white} or set(present.tolist()) <= {0, 255}:
        return (values > 0).astype(np.uint8)
    if _highest(present) <= _SURE_GREY_ID:
        return values.astype(np.uint8)
    raise MaskError(
        f"the mask {path} has {len(present)} grey values ({_list(present)}) that may be no object ids: "
        f"expected black and white, or ids up to {_SURE_GREY_ID}; more only in an indexed PNG. " + _MEND
    )


def colour_ids(colours: Ids, path: Path) -> Ids:
    """Read the colours of an RGB mask as ids where they can be nothing else.

    Certain are: greys as in ``grey_ids``; colours that are all in the palette of DAVIS, or all in that of
    PASCAL VOC; black and one other pure colour (each channel 0 or 255), which is object 1.

    Args:
        colours: (H, W, 3) uint8.
        path: The file, for the message.

    Returns:
        (H, W) uint8 ids.

    Raises:
        MaskError: Any other colours; the message says how to mend the file.

    Example:
        >>> colour_ids(np.array([[[0, 0, 0], [0, 128, 0]]], np.uint8), Path("mask.png")).tolist()
        [[0, 2]]
    """
    if (colours == colours[..., :1]).all():
        return grey_ids(colours[..., 0], 255, path)
    packed = _pack(colours)  # (H, W)
    present, where = np.unique(packed, return_inverse=True)
    where = where.reshape(packed.shape)
    for palette in (davis_palette(), voc_palette()):
        known = {int(colour): index for index, colour in enumerate(_pack(palette[:DAVIS_COLOURS]))}
        known[int(_pack(palette[_VOID]))] = _VOID
        if all(colour in known for colour in present.tolist()):
            ids = np.array([known[colour] for colour in present.tolist()], np.uint8)
            highest = _highest(ids)
            if highest <= _SURE_COLOUR_ID or set(range(1, highest)) <= set(ids.tolist()):
                return np.asarray(ids[where])
    other = present[present != 0]
    if len(other) == 1 and len(present) == 2 and set(_unpack(int(other[0]))) <= {0, 255}:
        return np.asarray(packed != 0, np.uint8)
    shown = ", ".join(str(_unpack(int(colour))) for colour in present[:4]) + ("..." if len(present) > 4 else "")
    raise MaskError(
        f"the mask {path} has {len(present)} colours ({shown}) whose object ids are not certain: "
        "expected the colours of the DAVIS palette, or black and one pure colour. " + _MEND
    )


_MEND = (
    "Soft edges come from antialiased drawing, smooth resizing or JPEG: draw hard edges, resize with nearest "
    "neighbour, and save an indexed PNG (`vos_umec.io.masks.write_mask` writes one from an array of ids)."
)


def _highest(ids: npt.NDArray[np.integer]) -> int:
    """Largest id, leaving out 255 (unknown)."""
    return int(ids[ids != _VOID].max(initial=0))


def _pack(colours: Ids) -> npt.NDArray[np.int32]:
    """(..., 3) colours as one number each."""
    wide = colours.astype(np.int32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _unpack(colour: int) -> tuple[int, int, int]:
    return colour >> 16, colour >> 8 & 255, colour & 255


def _list(values: npt.NDArray[np.integer]) -> str:
    return ", ".join(str(value) for value in values[:6].tolist()) + (", ..." if len(values) > 6 else "")
