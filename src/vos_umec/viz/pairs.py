"""One frame twice, the truth beside the prediction, in a PNG that says what it shows."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vos_umec.io.atomic import atomic_path
from vos_umec.io.frames import Frame, resize_frame
from vos_umec.io.masks import Ids
from vos_umec.io.picture import open_picture
from vos_umec.viz.overlays import overlay
from vos_umec.viz.sheets import contact_sheet

_KEY = "vos_umec"  # of the text in the PNG


def pair_picture(frame: Frame, truth: Ids, prediction: Ids, width: int = 320) -> Frame:
    """Draw the truth and the prediction over a frame, side by side.

    Args:
        frame: (H, W, 3) uint8 RGB.
        truth: Ids (H, W).
        prediction: Ids (H, W).
        width: Width of each of the two in pixels.

    Returns:
        (H', 2 `width`, 3) uint8 RGB.
    """
    size = (max(1, round(frame.shape[0] * width / frame.shape[1])), width)
    both = [resize_frame(overlay(frame, ids), size) for ids in (truth, prediction)]
    return contact_sheet([both], labels=[["truth", "prediction"]], width=2 * width)


def save_described(path: Path, picture: Frame, about: Mapping[str, Any]) -> None:
    """Write a PNG with a text of JSON values; it appears complete or not at all."""
    text = PngInfo()
    text.add_itxt(_KEY, json.dumps(dict(about)))
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=text)


def read_description(path: Path) -> dict[str, Any]:
    """The text of `save_described`; empty for a picture of another kind, and for one that is broken."""
    try:
        with open_picture(path) as picture:
            about = json.loads(picture.info.get(_KEY, "{}"))
    except (OSError, ValueError, SyntaxError, struct.error, RecursionError):  # of broken headers, and deep JSON
        return {}
    return about if isinstance(about, dict) else {}
