"""What grey values and colours of a mask mean, and how to say that they mean nothing certain."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from vos_umec.errors import MaskError
from vos_umec.io.palette import DAVIS_COLOURS, davis_palette, voc_palette

Ids = npt.NDArray[np.uint8]

# Grey values up to here are ids even with gaps. The darkest colour of an object turned grey is 15 (dark blue),
# so masks that some tool has flattened from colour are not taken for ids.
_SURE_GREY_ID = 10
# Colours of ids up to here are at full strength. Beyond, a colour may be a blend of two others at an edge.
_SURE_COLOUR_ID = 7
_VOID = 255


def grey_ids(values: npt.NDArray[np.integer], white: int, path: Path) -> Ids:
    """Read grey values as ids where they can be nothing else.

    Certain are: all 0 or one; black and white (white is object 1); ids up to 10; ids without a gap from 1.
    255 beside ids stays 255 (unknown).

    Args:
        values: (H, W) grey values, >= 0.
        white: The value of white: 1, 255 or 65535.
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
        vos_umec.errors.MaskError: the mask mask.png has 3 grey values (0, 97, 255) that are no object ids: ...
    """
    present = np.unique(values)
    if set(present.tolist()) <= {0, white}:
        return (values > 0).astype(np.uint8)
    if _sure(present, _SURE_GREY_ID):
        return values.astype(np.uint8)
    raise MaskError(
        f"the mask {path} has {len(present)} grey values ({_list(present)}) that are no object ids: "
        "expected black and white, or ids 0, 1, 2, ... as grey values. " + _MEND
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
            if _sure(np.sort(ids), _SURE_COLOUR_ID):
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


def _sure(present: npt.NDArray[np.integer], limit: int) -> bool:
    """Whether rising values can only be ids: none above the limit, or none missing from 1 on."""
    objects = present[(present != 0) & (present != _VOID)]
    if not len(objects):
        return True
    return int(objects[-1]) <= limit or (int(objects[-1]) == len(objects) and int(objects[-1]) < _VOID)


def _pack(colours: Ids) -> npt.NDArray[np.int32]:
    """(..., 3) colours as one number each."""
    wide = colours.astype(np.int32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _unpack(colour: int) -> tuple[int, int, int]:
    return colour >> 16, colour >> 8 & 255, colour & 255


def _list(values: npt.NDArray[np.integer]) -> str:
    return ", ".join(str(value) for value in values[:6].tolist()) + (", ..." if len(values) > 6 else "")
