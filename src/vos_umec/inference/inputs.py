"""Checks of what a segmenter is given: settings, frames and prompts."""

from collections.abc import Collection, Sequence
from operator import index
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.errors import ConfigError, MaskError
from vos_umec.inference.resizing import Resizing
from vos_umec.io.masks import image_ids, read_mask
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
        if not isinstance(value, int | np.integer) or value < 0:
            raise ConfigError(f"{name} must be 0 or more; found {value!r}")
    if not (crop_margin in ("auto", None) or (isinstance(crop_margin, int) and crop_margin >= 0)):
        raise ConfigError(f"crop_margin must be 0 or more, 'auto' or None; found {crop_margin!r}")
    if search_margin is not None and not (isinstance(search_margin, int) and search_margin >= 0):
        raise ConfigError(f"search_margin must be 0 or more cells, or None for all; found {search_margin!r}")
    if memory_masks not in get_args(MemoryMasks):
        raise ConfigError(f"memory_masks must be {', '.join(get_args(MemoryMasks))}; found {memory_masks!r}")
    if max_extent is not None and not (isinstance(max_extent, int | float) and max_extent > 0):
        raise ConfigError(f"max_extent must be above 0, or None to drop nothing; found {max_extent!r}")
    if rounds and not isinstance(network, UMEC):
        raise ConfigError(
            f"{rounds} rounds of refinement need a frame-mask encoder and a decoder, and this network is an "
            "encoder alone; give rounds=0 for label propagation, or a protocol of it (crw, dino)"
        )
    if rounds and fit == "native":
        raise ConfigError("V and D need frames of whole cells; give fit='pad', or rounds=0 for label propagation")


def check_frame(frame: Any) -> None:
    """Raise ConfigError if this is no array (H, W, 3) uint8."""
    fits = isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8
    if not fits or not frame.size:
        found = " ".join(str(getattr(frame, name, "")) for name in ("shape", "dtype"))
        raise ConfigError(
            f"a frame is a numpy array (H, W, 3) uint8, RGB; found {type(frame).__name__} {found}".strip()
        )


MaskLike = np.ndarray | Tensor | Image.Image | Sequence[Sequence[int]] | str | Path
"""A mask of ids (H, W), in the forms that users have one."""


def mask_array(mask: MaskLike | None) -> np.ndarray | None:
    """A mask as an array (H, W); a path is read by `read_mask`, and a PIL image as it reads a file.

    Raises:
        MaskError: It is none of these, or no such file.
    """
    if mask is None:
        return None
    given: Any = mask  # whatever its type says
    array: np.ndarray
    if isinstance(given, str | Path):
        array = read_mask(given)
    elif isinstance(given, Image.Image):
        array = image_ids(given)
    elif isinstance(given, Tensor):
        array = (given.float() if given.dtype == torch.bfloat16 else given).detach().cpu().numpy()
    else:
        try:
            array = np.asarray(given)
        except ValueError:  # lists of different lengths
            array = np.empty(0)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):  # (1, H, W) or (H, W, 1)
        array = array.squeeze(0 if array.shape[0] == 1 else 2)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise MaskError(
            "a mask holds ids (H, W): an array, a tensor, a PIL image, nested lists or a path; found "
            f"{type(given).__name__} of shape {array.shape} and type {array.dtype}"
        )
    return array


def object_ids(ids: Collection[int] | int | None, has_mask: bool = True) -> list[int] | None:
    """Object ids as a list: of any collection of whole numbers, or of one number.

    Raises:
        ConfigError: They are something else, such as texts, or there is no mask that they could be of.
    """
    if ids is None:
        return None
    given: Any = ids.tolist() if isinstance(ids, np.ndarray | Tensor) else ids
    try:
        numbers = [index(i) for i in ([given] if isinstance(given, int | np.integer) else given)]
    except TypeError as error:
        raise ConfigError(f"ids are whole numbers, such as [1, 2]; found {ids!r}") from error
    if numbers and not has_mask:
        raise ConfigError(f"ids {numbers} say which objects of a mask are meant; give the mask, too")
    return numbers


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
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        raise MaskError(
            "the mask holds values that are no numbers (NaN or infinity); give object ids, such as mask > 0.5"
        )
    if mask.dtype.kind == "f" and (mask % 1).any():
        raise MaskError("the mask has values between whole numbers; give object ids, such as mask > 0.5")
    values = set(np.unique(mask).tolist())
    if ids is None and IGNORE in values and values <= {0, IGNORE}:
        raise MaskError("the mask holds 0 and 255 alone, and 255 means unknown; give ids, such as mask > 0")
    named = sorted({int(i) for i in (values - {0, IGNORE} if ids is None else ids)})
    if named and not 1 <= named[0] <= named[-1] < IGNORE:
        raise MaskError(f"object ids must lie in 1 to 254; found {named[0]} to {named[-1]}")
    return named


def cells_of_objects(resizing: Resizing, mask: np.ndarray) -> dict[int, float]:
    """How much of its best cell each object of a mask (H, W) fills at the working size, 0 to 1, by id."""
    H, W = resizing.working_size((mask.shape[0], mask.shape[1]))
    grid = (-(-H // resizing.stride), -(-W // resizing.stride))
    objects = [i for i in np.unique(mask).tolist() if i not in (0, IGNORE)]
    shown = {i: torch.from_numpy(mask == i).float()[None] for i in objects}
    return {i: float(resizing.prompt(one, grid)[1].max()) for i, one in shown.items()}
