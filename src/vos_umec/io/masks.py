"""Masks in and out: indexed PNG files whose pixel values are object ids."""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from vos_umec.errors import MaskError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.label_pixels import edge_labels
from vos_umec.io.picture import check_scans, open_picture
from vos_umec.io.png import DAVIS_COLORS, davis_palette, indexed_png, plain_indices, voc_palette

Ids = npt.NDArray[np.uint8]

_VOID = 255
_WHITE = {"1": 1, "L": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}  # largest value of each grey mode
_WITH_ALPHA = {"LA": "L", "RGBA": "RGB"}
# Grey values up to here are ids. The darkest color of an object becomes grey 15 (dark blue), and the soft edge of
# an object has every value up to its grey, so larger values may come from a grey or smoothed copy of a mask.
_SURE_GREY_ID = 10
# Ids up to here have colors of full strength. A later color may be a blend of two others at an edge, unless all ids
# before it are present too.
_SURE_COLOR_ID = 7
_SOFT = (
    "Soft edges come from antialiased drawing, smooth resizing or JPEG: draw hard edges, resize with nearest "
    "neighbour, and save an indexed PNG (`vos_umec.write_mask` writes one from an array of ids)."
)
_HARD = (
    "Its edges are hard, so they may be a labelling tool's: `vos-umec segment` reads them (with --labelmap, in the "
    "order that you say); or save the ids in an indexed PNG (`vos_umec.write_mask` writes one from an array)."
)


def read_mask(path: str | Path) -> Ids:
    """Read the object ids of a mask.

    An indexed image gives its indices, whatever its palette. Grey and RGB images are read only where their values
    can be nothing but ids:

    * black and white (white is object 1), or grey values up to 10;
    * colors that are all in the DAVIS palette, or all in the PASCAL VOC palette;
    * black and one other pure color (each channel 0 or 255), which is object 1.

    255 beside other ids stays 255 (void). Fully transparent pixels are background.

    Returns:
        (H, W) uint8: 0 is the background, 255 is void (unknown).

    Raises:
        MaskError: The file is missing, is no image, or its values may be something else than ids.
    """
    given: Any = path  # whatever its type says
    if not isinstance(given, str | Path):
        raise MaskError(
            f"a mask is read from a file, by its path; found {type(given).__name__}: give a str or a Path"
        )
    path = Path(path)
    image = decode_mask(path)
    return image if isinstance(image, np.ndarray) else image_ids(image, path)


def image_ids(image: Image.Image, path: Path | str = "image") -> Ids:
    """The object ids of a decoded image, as `read_mask` reads a file; `path` is for messages."""
    if image.mode in {"P", "PA"}:
        indices = np.asarray(image)
        return np.array(indices if image.mode == "P" else indices[..., 0])
    if image.mode in _WITH_ALPHA:
        return _opaque_ids(image, path)
    if image.mode == "RGB":
        return _color_ids(np.asarray(image), path)
    if image.mode in _WHITE:
        return _grey_ids(np.asarray(image).astype(np.int64), _WHITE[image.mode], path)
    raise MaskError(f"the mask {path} has pixels of type {image.mode}; expected an indexed PNG")


def decode_mask(path: Path) -> Ids | Image.Image:
    """The indices (H, W) of a usual indexed PNG, or any other image as Pillow decodes it."""
    require_mask_file(path)
    try:
        data = path.read_bytes()
        ids = plain_indices(data)
        if ids is not None:
            return ids
        with open_picture(BytesIO(data)) as image:
            if image.format == "JPEG":
                check_scans(data)
            image.load()
            return image
    except UnidentifiedImageError as error:
        found = "it is no picture" if data else "it is empty"
        raise MaskError(f"the mask {path} cannot be decoded: {found}; expected an indexed PNG") from error
    except (OSError, ValueError, SyntaxError, MemoryError, struct.error) as error:
        raise MaskError(f"the mask {path} cannot be decoded: {error}; expected an indexed PNG") from error


def require_mask_file(path: Path) -> None:
    """Raise a MaskError if there is no file at a path."""
    if not path.is_file():
        there = "is no file" if path.exists() else "does not exist; check the path"
        what = "is a folder; name one file in it" if path.is_dir() else there
        raise MaskError(f"no mask at {path}, which {what}")


def write_mask(path: str | Path, ids: npt.ArrayLike) -> None:
    """Write object ids as an indexed PNG with the DAVIS palette. The file appears complete or not at all.

    Args:
        path: A name that ends in `.png`; its folder is created if needed.
        ids: (H, W) integers or booleans, 0 to 255.

    Raises:
        MaskError: The name, the shape, the type or a value is not as above.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "00000.png"
        >>> write_mask(file, [[0, 1], [2, 255]])
        >>> read_mask(file).tolist()
        [[0, 1], [2, 255]]
    """
    place: Any = path  # whatever its type says
    if not isinstance(place, str | Path) or Path(place).suffix.lower() != ".png":
        raise MaskError(f"cannot write a mask to {path!s}: expected a name that ends in .png")
    path = Path(place)
    try:
        values = np.asarray(ids)
    except ValueError as error:
        raise MaskError(f"cannot write rows of different lengths to {path}: expected (H, W)") from error
    if values.ndim != 2 or not values.size:
        raise MaskError(f"cannot write a mask of shape {values.shape} to {path}: expected (H, W)")
    if values.dtype != np.bool_ and not np.issubdtype(values.dtype, np.integer):
        raise MaskError(f"cannot write a mask of {values.dtype} to {path}: expected whole object ids")
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > 255:
        raise MaskError(f"cannot write ids from {lowest} to {highest} to {path}: expected 0 to 255")
    with atomic_path(path) as temporary:
        temporary.write_bytes(indexed_png(values.astype(np.uint8)))


def _opaque_ids(image: Image.Image, path: Path | str) -> Ids:
    """Ids of an image with an alpha channel."""
    alpha = np.asarray(image.getchannel("A"))
    if not np.isin(alpha, (0, 255)).all():
        raise MaskError(
            f"the mask {path} has half-transparent pixels, whose object is not certain: draw hard edges, and save "
            "an indexed PNG or one without transparency"
        )
    values = np.array(image.convert(_WITH_ALPHA[image.mode]))
    values[alpha == 0] = 0
    return _grey_ids(values, 255, path) if image.mode == "LA" else _color_ids(values, path)


def _grey_ids(values: npt.NDArray[np.integer], white: int, path: Path | str) -> Ids:
    """Ids (H, W) of grey values (H, W) >= 0, of which `white` is the largest that this kind of image can have."""
    present = np.unique(values)
    if set(present.tolist()) <= {0, white} or set(present.tolist()) <= {0, 255}:
        return (values > 0).astype(np.uint8)
    if _highest(present) <= _SURE_GREY_ID:
        return values.astype(np.uint8)
    shown = ", ".join(str(value) for value in present[:6].tolist()) + (", ..." if len(present) > 6 else "")
    raise MaskError(
        f"the mask {path} has {len(present)} grey values ({shown}) that may be no object ids: "
        f"expected black and white, or ids up to {_SURE_GREY_ID}; save larger ids in an indexed PNG. "
        + _repair(values)
    )


def _color_ids(colors: Ids, path: Path | str) -> Ids:
    """Ids (H, W) of colors (H, W, 3)."""
    if (colors == colors[..., :1]).all():
        return _grey_ids(colors[..., 0], 255, path)
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
        "expected the colors of the DAVIS palette, or black and one pure color. " + _repair(packed)
    )


def _repair(values: npt.NDArray[np.integer]) -> str:
    """What to do about values (H, W) that may be no ids."""
    edge, _ = edge_labels(values.astype(np.int64))
    return _SOFT if len(edge) > 2 else _HARD


def _highest(ids: npt.NDArray[np.integer]) -> int:
    """Largest id other than 255 (void)."""
    return int(ids[ids != _VOID].max(initial=0))


def _pack(colors: Ids) -> npt.NDArray[np.int32]:
    """Colors (..., 3) as one number each."""
    wide = colors.astype(np.int32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _unpack(color: int) -> tuple[int, int, int]:
    return color >> 16, color >> 8 & 255, color & 255
