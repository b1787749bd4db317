"""Reading the mask that a user gives with a video."""

from pathlib import Path

import numpy as np

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
    if mask.shape != source.size:
        raise MaskError(
            f"{path} has {mask.shape} pixels (H, W) where {video} has {source.size}; "
            "give the mask at the video's own size"
        )
    if not ((mask > 0) & (mask < 255)).any():
        raise MaskError(f"{path} shows no object; mark each object with an id of 1 to 254")
    return mask
