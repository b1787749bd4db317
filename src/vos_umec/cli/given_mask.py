"""Reading the mask that a user gives with a video."""

from pathlib import Path

import numpy as np
from PIL import Image

from vos_umec.errors import MaskError
from vos_umec.io.masks import read_mask
from vos_umec.io.source import FrameSource


def read_given_mask(path: Path, video: Path, source: FrameSource) -> np.ndarray:
    """The mask of one frame of a video, checked before any work is done.

    Args:
        path: An indexed PNG.
        video: What the user called the video, for messages.
        source: The video.

    Returns:
        Ids (H, W) uint8.

    Raises:
        MaskError: If it cannot be read, is of another size than the video, or shows no object.
    """
    mask = read_mask(path)
    _check_palette(path, mask)
    if mask.shape != source.size:
        raise MaskError(
            f"{path} has {mask.shape} pixels (H, W) where {video} has {source.size}; "
            "give the mask at the video's own size"
        )
    if not ((mask > 0) & (mask < 255)).any():
        raise MaskError(f"{path} shows no object; mark each object with an id of 1 to 254")
    return mask


def _check_palette(path: Path, mask: np.ndarray) -> None:
    """Programs that pick colours themselves number them as they please: the background need not be 0."""
    with Image.open(path) as image:
        colours = image.getpalette() if image.mode == "P" else None
    if not colours or not any(colours[:3]):
        return
    black = [i for i in np.unique(mask).tolist() if colours[3 * i : 3 * i + 3] == [0, 0, 0]]
    if black:
        raise MaskError(
            f"{path} shows {black[0]} in black and 0, the background, in a colour: most likely 0 is an object; "
            "save the ids themselves as grey values, or with a palette whose first colour is black"
        )
