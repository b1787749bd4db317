"""Reading the mask that a user gives with a video."""

import argparse
from pathlib import Path
from typing import Any

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
    """Programs that pick colors themselves number them as they please: the background need not be 0."""
    with Image.open(path) as image:
        colors = image.getpalette() if image.mode == "P" else None
    if not colors or not any(colors[:3]):
        return
    black = [i for i in np.unique(mask).tolist() if colors[3 * i : 3 * i + 3] == [0, 0, 0]]
    if black:
        raise MaskError(
            f"{path} shows {black[0]} in black and 0, the background, in a color: most likely 0 is an object; "
            "save the ids themselves as grey values, or with a palette whose first color is black"
        )


_READOUT = ("top_k", "radius", "permanent_radius")
_NAMES = ("protocol", "rounds", "references", "max_extent", "crop_margin", "short_side")


def add_readout(parser: argparse.ArgumentParser) -> None:
    """Add them, without defaults: what is not given is the checkpoint's own read-out, else VideoSegmenter's.

    Args:
        parser: Parser of a command.
    """
    readout = parser.add_argument_group("read-out", "where not given, as the checkpoint was validated")
    readout.add_argument("--protocol", help="a published read-out by name: crw, dino or umec")
    readout.add_argument("--rounds", type=int, help="refinement rounds; 0 = label propagation")
    readout.add_argument("--references", type=int, help="last frames kept in memory")
    readout.add_argument("--radius", type=float, help="window on them, in cells")
    readout.add_argument("--permanent-radius", type=float, help="window on the mask's frame, in cells")
    readout.add_argument("--top-k", type=int, help="cells read for each cell")
    readout.add_argument(
        "--max-extent", type=float, help="how many times its size an object may reach from its place"
    )
    readout.add_argument("--crop-margin", type=int, help="cells around an object that are refined with it")
    readout.add_argument("--short-side", type=int, help="segment at this short side, in pixels")


def given_readout(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of VideoSegmenter, and "protocol", as far as they were given.

    Args:
        args: What a parser with these options parsed.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_readout(parser)
        >>> given_readout(parser.parse_args(["--rounds", "0", "--radius", "18"]))
        {'rounds': 0, 'readout': {'radius': 18.0}}
    """
    given = {name: value for name, value in vars(args).items() if value is not None}
    settings: dict[str, Any] = {name: given[name] for name in _NAMES if name in given}
    if readout := {name: given[name] for name in _READOUT if name in given}:
        settings["readout"] = readout
    return settings
