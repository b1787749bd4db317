"""The options of commands that say how a model reads out."""

import argparse
from typing import Any

_NAMES = (
    "protocol",
    "rounds",
    "references",
    "radius",
    "anchor_radius",
    "top_k",
    "mutual",
    "spread",
    "crop_margin",
    "short_side",
)


def add_read_out(parser: argparse.ArgumentParser) -> None:
    """Add them, without defaults: what is not given is the checkpoint's own read-out, else VideoSegmenter's.

    Args:
        parser: Parser of a command.
    """
    read_out = parser.add_argument_group("read-out", "where not given, as the checkpoint was validated")
    read_out.add_argument("--protocol", help="a published read-out by name: crw, dino or umec")
    read_out.add_argument("--rounds", type=int, help="refinement rounds; 0 = label propagation")
    read_out.add_argument("--references", type=int, help="last frames kept in memory")
    read_out.add_argument("--radius", type=float, help="window on them, in cells")
    read_out.add_argument("--anchor-radius", type=float, help="window on the mask's frame, in cells")
    read_out.add_argument("--top-k", type=int, help="cells read for each cell")
    read_out.add_argument("--mutual", type=float, help="temperature at which one-sided matches lose weight")
    read_out.add_argument("--spread", type=float, help="how many times its size an object may reach from its place")
    read_out.add_argument("--crop-margin", type=int, help="cells around an object that are refined with it")
    read_out.add_argument("--short-side", type=int, help="segment at this short side, in pixels")


def given_read_out(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of VideoSegmenter, and "protocol", as far as they were given.

    Args:
        args: What a parser with these options parsed.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_read_out(parser)
        >>> given_read_out(parser.parse_args(["--rounds", "0", "--short-side", "240"]))
        {'rounds': 0, 'short_side': 240}
    """
    return {name: getattr(args, name) for name in _NAMES if getattr(args, name) is not None}
