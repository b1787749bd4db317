"""The pixels of a mask file as labels, whatever kind of picture it is; and what its user says of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from vos_umec.errors import MaskError
from vos_umec.io.label_pixels import Labels, Where
from vos_umec.io.masks import decode_mask

COLOR = 1 << 32
"""A label of this and more is a color (its red, green and blue bytes), a smaller one a number."""

_ALPHA = {"LA": "L", "PA": "RGB", "RGBA": "RGB", "La": "L", "RGBa": "RGB"}


@dataclass(frozen=True)
class MaskReading:
    """What a mask file leaves open, said by its user.

    Args:
        background: The value or color of the background, such as 255 or "#ffffff", or "none" if all is objects;
            without it, 0, black or transparent.
        unknown: The value or color of what is neither an object nor background, or "none" where each value is an
            object. Without it, a thin band of 255 along objects is unknown.
        edges: What to do about soft edges: "ask" refuses them, "harden" gives each pixel the nearest of the mask's
            plain values, "keep" takes every value for an object.
        labelmap: A file of label colors, which become ids in its order: labelmap.txt of CVAT, JSON of names and
            colors, or a color a line.
        resize_mask: Resize a mask of another size to the video's, by nearest pixels.
    """

    background: str | None = None
    unknown: str | None = None
    edges: Literal["ask", "harden", "keep"] = "ask"
    labelmap: Path | None = None
    resize_mask: bool = False


def color_name(label: int) -> str:
    """How a message calls a label: a color as #rrggbb, a number as it is."""
    return f"#{label - COLOR:06x}" if label >= COLOR else str(label)


def file_labels(path: Path, reading: MaskReading) -> tuple[Labels, Where | None, list[int]]:
    """Labels (H, W), before any of them is background; where the picture is opaque; the colors of a palette."""
    image = _single(path)
    palette = (image.getpalette() or []) if image.mode == "P" else []
    if image.mode == "P" and reading.background is None:
        _require_clear_background(image, path)
    opaque = None
    if image.mode in _ALPHA:
        opaque = _opaque(np.asarray(image.getchannel(image.getbands()[-1])), path, reading)
        image = image.convert(_ALPHA[image.mode])
    by_color = (image.mode == "P" and reading.edges == "harden") or image.mode in {"CMYK", "YCbCr", "LAB", "HSV"}
    if by_color or (reading.labelmap is not None and image.mode in {"1", "L", "P"}):
        image, palette = image.convert("RGB"), []
    values = np.asarray(image)
    if values.ndim == 3 and values.shape[2] == 3:
        if reading.labelmap is None and (values == values[..., :1]).all():
            return values[..., 0].astype(np.int64), opaque, palette
        wide = values.astype(np.int64)
        return COLOR | wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], opaque, palette
    if values.ndim != 2:
        raise MaskError(f"the mask {path} has pixels of type {image.mode}; save ids in an indexed PNG")
    if values.dtype == np.bool_:
        return values.astype(np.int64) * 255, opaque, palette
    return _whole(values, path, reading), opaque, palette


def _require_clear_background(image: Image.Image, path: Path) -> None:
    """Raise a MaskError if an indexed picture has another transparent index beside 0, as GIMP may write it."""
    clear = image.info.get("transparency")
    index = clear.find(b"\0") if isinstance(clear, bytes) else clear
    shown = np.unique(np.asarray(image)).tolist()
    if isinstance(index, int) and index > 0 and index in shown and 0 in shown:
        raise MaskError(
            f"id {index} of {path} is transparent, and id 0 is not, so either may be the background: "
            f"--background {index} or --background 0 says which"
        )


def _single(path: Path) -> Image.Image:
    """The decoded picture, which must be the only one of its file."""
    ids = decode_mask(path)
    if not isinstance(ids, np.ndarray) and getattr(ids, "n_frames", 1) > 1:
        raise MaskError(f"the mask {path} holds {getattr(ids, 'n_frames', 2)} pictures; save the one of its frame")
    if not isinstance(ids, np.ndarray):
        return ids
    with Image.open(path) as image:  # decode_mask gave the indices of a plain PNG; here its palette is needed, too
        image.load()
        return image


def _opaque(alpha: npt.NDArray[np.uint8], path: Path, reading: MaskReading) -> Where | None:
    """Where (H, W) a picture with an alpha channel is opaque; None if it is so everywhere."""
    if reading.edges == "ask" and not np.isin(alpha, (0, 255)).all():
        raise MaskError(
            f"the mask {path} has half-transparent pixels in its alpha channel, which may be the object or not: "
            "--edges harden takes those that are opaque by half or more"
        )
    opaque = alpha >= 128
    if not opaque.any():
        raise MaskError(f"the mask {path} is transparent everywhere; it shows no object")
    return None if opaque.all() else opaque


def _whole(values: npt.NDArray[np.generic], path: Path, reading: MaskReading) -> Labels:
    """Numbers of any type as whole ones of 0 or more."""
    numbers = np.asarray(values, np.float64)
    if not np.isfinite(numbers).all() or numbers.min() < 0:
        raise MaskError(f"the mask {path} has values below 0 or none at all (NaN); expected ids of 0 and more")
    if (numbers % 1).any():
        if reading.edges != "harden":
            raise MaskError(
                f"the mask {path} has values between whole numbers, up to {numbers.max():.3g}, as probabilities "
                "have: --edges harden takes for the object what is above half of the largest"
            )
        numbers = numbers * (255 / numbers.max())
    return np.rint(numbers).astype(np.int64)
