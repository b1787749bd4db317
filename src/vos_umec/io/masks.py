"""Masks in and out: indexed PNG files whose pixel values are object ids."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vos_umec.errors import MaskError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.indexed_png import plain_indices
from vos_umec.io.mask_values import Ids, colour_ids, grey_ids
from vos_umec.io.palette import davis_palette

_WHITE = {"1": 1, "L": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}
_WITH_ALPHA = {"LA": "L", "RGBA": "RGB"}


def read_mask(path: str | Path) -> Ids:
    """Read the object ids of a mask.

    An indexed picture gives its indices, whatever its palette. Grey and RGB pictures are read only where
    their values can be nothing but ids, see ``grey_ids`` and ``colour_ids``. Fully transparent pixels of a
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
        return colour_ids(np.asarray(image), path)
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
    return grey_ids(values, 255, path) if image.mode == "LA" else colour_ids(values, path)
