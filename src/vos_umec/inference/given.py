"""What a caller gives a segmenter, checked: frames and masks."""

from collections.abc import Iterable

import numpy as np

from vos_umec.constants import IGNORE
from vos_umec.errors import ConfigError, MaskError


def check_frame(frame: object) -> None:
    """Refuse what is no frame.

    Args:
        frame: What may be one.

    Raises:
        ConfigError: If it is no array (H, W, 3) uint8.

    Example:
        >>> check_frame(np.zeros((48, 64), np.uint8))
        Traceback (most recent call last):
        vos_umec.errors.ConfigError: a frame is a numpy array (H, W, 3) uint8, RGB; found ndarray (48, 64) uint8
    """
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        found = " ".join(str(getattr(frame, name, "")) for name in ("shape", "dtype"))
        raise ConfigError(
            f"a frame is a numpy array (H, W, 3) uint8, RGB; found {type(frame).__name__} {found}".strip()
        )


def objects_of(mask: np.ndarray, size: tuple[int, int], ids: Iterable[int] | None) -> list[int]:
    """The objects of which a mask speaks, in ascending order.

    Args:
        mask: Ids (H, W); 0 and 255 name no object.
        size: (H, W) of its frame.
        ids: The objects of which it speaks; None for those in it.

    Raises:
        MaskError: If the mask is of another size, or can hardly be one of ids, or these are not in 1 to 254.

    Example:
        >>> objects_of(np.array([[0, 3], [255, 1]]), (2, 2), None)
        [1, 3]
    """
    if mask.shape != size:
        raise MaskError(
            f"the mask has shape {mask.shape} where its frame has {size} (H, W); "
            "give the mask at the frame's own size"
        )
    if mask.dtype.kind == "f" and (mask % 1).any():
        raise MaskError("the mask has values between whole numbers; give object ids, such as mask > 0.5")
    values = set(np.unique(mask).tolist())
    if ids is None and IGNORE in values and values <= {0, IGNORE}:
        raise MaskError("the mask holds 0 and 255 alone, and 255 means unknown; give ids, such as mask > 0")
    spoken = sorted({int(i) for i in (values if ids is None else ids)} - {0, IGNORE})
    if spoken and not 1 <= spoken[0] <= spoken[-1] < IGNORE:
        raise MaskError(f"object ids must lie in 1 to 254; found {spoken[0]} to {spoken[-1]}")
    return spoken
