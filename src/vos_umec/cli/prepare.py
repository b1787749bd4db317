"""`vos-umec prepare`: a copy of a folder of videos from which training reads clips quickly."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of `vos-umec prepare`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["videos", "--out", "copy"]).short_side
        319
    """
    parser.add_argument("videos", type=Path, help="a folder of videos and frame folders, searched at any depth")
    parser.add_argument("--out", type=Path, required=True, help="folder of the copy; give it to --data.root")
    parser.add_argument(
        "--short-side",
        type=int,
        default=319,
        help="short side of the copy, that of training or more (default: 319)",
    )
    parser.add_argument("--workers", type=int, help="processes that copy (default: one per core)")


def run(args: argparse.Namespace) -> int:
    """Make the copy, or what is missing of it, and say what was done.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        0, the exit status.

    Raises:
        VosUmecError: If no video can be read, or the copy cannot be written.
    """
    from vos_umec.data.prepare import prepare

    done = prepare(args.videos, args.out, args.short_side, args.workers)
    for path, reason in done.broken:
        print(f"left out {path}: {reason}")
    counts = f"{len(done.copied)} videos copied, {len(done.kept)} were there, {len(done.broken)} left out"
    print(f"{counts}; train on them with --data.root {args.out}")
    return 0
