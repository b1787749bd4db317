"""Masks in and out: indexed PNG files whose pixel values are object ids."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vos_umec.errors import MaskError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.png import DAVIS_COLORS, davis_palette, plain_indices, voc_palette

Ids = npt.NDArray[np.uint8]

_WHITE = {"1": 1, "L": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}
_WITH_ALPHA = {"LA": "L", "RGBA": "RGB"}


def read_mask(path: str | Path) -> Ids:
    """Read the object ids of a mask.

    An indexed picture gives its indices, whatever its palette. Grey and RGB pictures are read only where
    their values can be nothing but ids, see ``grey_ids`` and ``color_ids``. Fully transparent pixels of a
    grey or RGB picture are background.

    Args:
        path: A picture, best an indexed PNG.

    Returns:
        (H, W) uint8: 0 is the background, 255 stays as read (unknown in DAVIS-like data).

    Raises:
        MaskError: The file is missing, is no picture, or the meaning of its values is not certain.

    Example:
        >>> read_mask("no/such.png")
        Traceback (most recent call last):
        ...
        vos_umec.errors.MaskError: no mask at no/such.png; check the path
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise MaskError(f"no mask at {path}; check the path")
        ids = plain_indices(path.read_bytes())
        if ids is not None:
            return ids
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MaskError(f"the mask {path} cannot be decoded: {error}; expected an indexed PNG") from error
    if image.mode in {"P", "PA"}:
        indices = np.asarray(image)
        return np.array(indices if image.mode == "P" else indices[..., 0])
    if image.mode in _WITH_ALPHA:
        return _opaque(image, path)
    if image.mode == "RGB":
        return color_ids(np.asarray(image), path)
    if image.mode in _WHITE:
        return grey_ids(np.asarray(image).astype(np.int64), _WHITE[image.mode], path)
    raise MaskError(f"the mask {path} has pixels of type {image.mode}; expected an indexed PNG")


def write_mask(path: str | Path, ids: npt.ArrayLike) -> None:
    """Write object ids as an indexed PNG with the DAVIS palette, whole or not at all.

    Args:
        path: A name that ends in ``.png``; its folder is made if it is missing.
        ids: (H, W) integers or booleans, 0 to 255.

    Raises:
        MaskError: Another ending, shape, type or range.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "00000.png"
        >>> write_mask(file, [[0, 1], [2, 255]])
        >>> read_mask(file).tolist()
        [[0, 1], [2, 255]]
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise MaskError(f"cannot write a mask to {path}: expected a name that ends in .png")
    values = np.asarray(ids)
    if values.ndim != 2 or not values.size:
        raise MaskError(f"cannot write a mask of shape {values.shape} to {path}: expected (H, W)")
    if values.dtype != np.bool_ and not np.issubdtype(values.dtype, np.integer):
        raise MaskError(f"cannot write a mask of {values.dtype} to {path}: expected whole object ids")
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > 255:
        raise MaskError(f"cannot write ids from {lowest} to {highest} to {path}: expected 0 to 255")
    image = Image.fromarray(values.astype(np.uint8), mode="L")
    image.putpalette(davis_palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", optimize=False)


def _opaque(image: Image.Image, path: Path) -> Ids:
    """Ids of a picture with an alpha channel."""
    alpha = np.asarray(image.getchannel("A"))
    if not np.isin(alpha, (0, 255)).all():
        raise MaskError(
            f"the mask {path} has half-transparent pixels: their object is not certain. Draw hard edges, and "
            "save an indexed PNG or one without transparency"
        )
    values = np.array(image.convert(_WITH_ALPHA[image.mode]))
    values[alpha == 0] = 0
    return grey_ids(values, 255, path) if image.mode == "LA" else color_ids(values, path)


# Grey values up to here are ids. The darkest color of an object turned grey is 15 (dark blue), and the soft edge
# of an object takes every value up to its grey, so more cannot be told from a flattened or softened picture.
_SURE_GREY_ID = 10
# Colors of ids up to here are at full strength. Beyond, a color may be a blend of two others at an edge, unless
# all ids before it are there too.
_SURE_COLOR_ID = 7
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


def color_ids(colors: Ids, path: Path) -> Ids:
    """Read the colors of an RGB mask as ids where they can be nothing else.

    Certain are: greys as in ``grey_ids``; colors that are all in the palette of DAVIS, or all in that of
    PASCAL VOC; black and one other pure color (each channel 0 or 255), which is object 1.

    Args:
        colors: (H, W, 3) uint8.
        path: The file, for the message.

    Returns:
        (H, W) uint8 ids.

    Raises:
        MaskError: Any other colors; the message says how to mend the file.

    Example:
        >>> color_ids(np.array([[[0, 0, 0], [0, 128, 0]]], np.uint8), Path("mask.png")).tolist()
        [[0, 2]]
    """
    if (colors == colors[..., :1]).all():
        return grey_ids(colors[..., 0], 255, path)
    packed = _pack(colors)  # (H, W)
    present, where = np.unique(packed, return_inverse=True)
    where = where.reshape(packed.shape)
    for palette in (davis_palette(), voc_palette()):
        known = {int(color): index for index, color in enumerate(_pack(palette[:DAVIS_COLORS]))}
        known[int(_pack(palette[_VOID]))] = _VOID
        if all(color in known for color in present.tolist()):
            ids = np.array([known[color] for color in present.tolist()], np.uint8)
            highest = _highest(ids)
            if highest <= _SURE_COLOR_ID or set(range(1, highest)) <= set(ids.tolist()):
                return np.asarray(ids[where])
    other = present[present != 0]
    if len(other) == 1 and len(present) == 2 and set(_unpack(int(other[0]))) <= {0, 255}:
        return np.asarray(packed != 0, np.uint8)
    shown = ", ".join(str(_unpack(int(color))) for color in present[:4]) + ("..." if len(present) > 4 else "")
    raise MaskError(
        f"the mask {path} has {len(present)} colors ({shown}) whose object ids are not certain: "
        "expected the colors of the DAVIS palette, or black and one pure color. " + _MEND
    )


_MEND = (
    "Soft edges come from antialiased drawing, smooth resizing or JPEG: draw hard edges, resize with nearest "
    "neighbour, and save an indexed PNG (`vos_umec.io.masks.write_mask` writes one from an array of ids)."
)


def _highest(ids: npt.NDArray[np.integer]) -> int:
    """Largest id, leaving out 255 (unknown)."""
    return int(ids[ids != _VOID].max(initial=0))


def _pack(colors: Ids) -> npt.NDArray[np.int32]:
    """(..., 3) colors as one number each."""
    wide = colors.astype(np.int32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _unpack(color: int) -> tuple[int, int, int]:
    return color >> 16, color >> 8 & 255, color & 255


def _list(values: npt.NDArray[np.integer]) -> str:
    return ", ".join(str(value) for value in values[:6].tolist()) + (", ..." if len(values) > 6 else "")
