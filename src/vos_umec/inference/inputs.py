"""Checks of what a segmenter is given: settings, frames and prompts."""

from collections.abc import Collection
from typing import get_args

import numpy as np

from vos_umec.constants import IGNORE
from vos_umec.errors import ConfigError, MaskError
from vos_umec.matching.readout import MemoryMasks
from vos_umec.models.umec import UMEC, PropagationNetwork


def check_settings(
    network: object,
    rounds: int,
    references: int,
    memory_masks: str,
    max_extent: float | None,
    crop_margin: int | str | None,
    fit: str | int,
    search_margin: int | None,
) -> None:
    """Raise ConfigError if an argument of VideoSegmenter is out of range, or the network lacks what it takes."""
    if not isinstance(network, PropagationNetwork):
        raise ConfigError(f"{type(network).__name__} is no network; of a UMECModule, give its `.network`")
    for name, value in (("rounds", rounds), ("references", references)):
        if value < 0:
            raise ConfigError(f"{name} must be 0 or more; found {value}")
    if not (crop_margin in ("auto", None) or (isinstance(crop_margin, int) and crop_margin >= 0)):
        raise ConfigError(f"crop_margin must be 0 or more, 'auto' or None; found {crop_margin!r}")
    if search_margin is not None and search_margin < 0:
        raise ConfigError(f"search_margin must be 0 or more cells, or None for all; found {search_margin}")
    if memory_masks not in get_args(MemoryMasks):
        raise ConfigError(f"memory_masks must be {', '.join(get_args(MemoryMasks))}; found {memory_masks!r}")
    if max_extent is not None and max_extent <= 0:
        raise ConfigError(f"max_extent must be above 0, or None to drop nothing; found {max_extent}")
    if rounds and not isinstance(network, UMEC):
        raise ConfigError(
            f"{rounds} rounds of refinement need a frame-mask encoder and a decoder, and this network is an "
            "encoder alone; give rounds=0 for label propagation, or a protocol of it (crw, dino)"
        )
    if rounds and fit == "native":
        raise ConfigError("V and D need frames of whole cells; give fit='pad', or rounds=0 for label propagation")


def check_frame(frame: object) -> None:
    """Raise ConfigError if this is no array (H, W, 3) uint8."""
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        found = " ".join(str(getattr(frame, name, "")) for name in ("shape", "dtype"))
        raise ConfigError(
            f"a frame is a numpy array (H, W, 3) uint8, RGB; found {type(frame).__name__} {found}".strip()
        )


def prompted_objects(mask: np.ndarray, size: tuple[int, int], ids: Collection[int] | None) -> list[int]:
    """The objects that a mask is a prompt for, in ascending order.

    Args:
        mask: Ids (H, W); 0 and 255 name no object.
        size: (H, W) of its frame.
        ids: The objects; None for those in the mask.

    Raises:
        MaskError: If the mask is of another size, or can hardly be one of ids, or these are not in 1 to 254.
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
    named = sorted({int(i) for i in (values if ids is None else ids)} - {0, IGNORE})
    if named and not 1 <= named[0] <= named[-1] < IGNORE:
        raise MaskError(f"object ids must lie in 1 to 254; found {named[0]} to {named[-1]}")
    return named
