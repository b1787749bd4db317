"""``vos-umec evaluate``: score a folder of results. Starts without torch."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from vos_umec.data.layouts import davis_sequences, youtube_vos_sequences
from vos_umec.data.youtube_meta import read_names, unseen_categories, youtube_vos_meta
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.atomic import atomic_path
from vos_umec.metrics.results import Scores, evaluate_results, print_table
from vos_umec.metrics.score_files import available_cores
from vos_umec.metrics.youtube_vos import YouTubeVOSScores, evaluate_youtube_vos

_SPLITS = {"davis17": "val", "youtube-vos": "train"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of ``vos-umec evaluate``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["results", "--root", "DAVIS"]).dataset
        'davis17'
    """
    parser.add_argument("results", type=Path, help="folder of indexed PNGs, <sequence>/<frame>.png")
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set, with its Annotations")
    parser.add_argument("--dataset", choices=sorted(_SPLITS), default="davis17", help="rules to score by")
    parser.add_argument("--split", help="split to score (default: val of davis17, train of youtube-vos)")
    parser.add_argument(
        "--workers",
        type=int,
        default=available_cores(),
        metavar="N",
        help="processes, which do not change the scores (default: the cores there are, here %(default)s)",
    )
    held_out = parser.add_argument_group("youtube-vos", "text files with one name a line")
    held_out.add_argument(
        "--videos",
        type=Path,
        metavar="FILE",
        help="score these videos, which were not trained on (default: all)",
    )
    held_out.add_argument(
        "--unseen",
        type=Path,
        metavar="FILE",
        help="categories that count as unseen (default: those that only the videos to score show)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures, as fractions, here")


def run(args: argparse.Namespace) -> int:
    """Print the scores of a folder of results, and write them as JSON where asked.

    Args:
        args: What :func:`add_arguments` parsed.

    Returns:
        0, the exit status.

    Raises:
        DataError: Ground truth or results are missing.
        MaskError: A mask cannot be read as object ids, or has a wrong size.
        ConfigError: The JSON file cannot be written, there are no workers, or it is not said what was held out.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> run(parser.parse_args(["results", "--root", "no/such/folder"]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder/JPEGImages: ...
    """
    scores = _youtube_vos(args) if args.dataset == "youtube-vos" else _davis(args)
    print_table(scores.table())
    if args.json is not None:
        _write(args.json, scores.to_json())
    return 0


def _davis(args: argparse.Namespace) -> Scores:
    if args.videos or args.unseen:
        raise ConfigError("--videos and --unseen are of youtube-vos: give --dataset youtube-vos, or leave them out")
    sequences = davis_sequences(args.root, args.split or _SPLITS["davis17"])
    return evaluate_results(args.results, sequences, progress=_progress(), workers=args.workers)


def _youtube_vos(args: argparse.Namespace) -> YouTubeVOSScores:
    split = args.split or _SPLITS["youtube-vos"]
    videos = None if args.videos is None else read_names(args.videos)
    sequences = youtube_vos_sequences(args.root, split, videos=videos)
    meta = youtube_vos_meta(args.root, split)
    if not meta:
        raise DataError(f"no meta.json in {args.root / split}: expected it with the category of each object")
    if args.unseen is None and set(videos or meta) >= set(meta):
        raise ConfigError(
            f"all videos of {split} are to be scored, so it cannot be told which categories training saw: "
            "name the videos that were held out (--videos) or the unseen categories (--unseen)"
        )
    unseen = unseen_categories(meta, videos or ()) if args.unseen is None else read_names(args.unseen)
    return evaluate_youtube_vos(args.results, sequences, meta, unseen, _progress(), args.workers)


def _progress() -> Any:
    """A progress bar, where there is a terminal to show it."""
    console = Console(stderr=True)
    return partial(track, description="scoring", console=console, transient=True, disable=not console.is_terminal)


def _write(path: Path, text: str) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; name a file in a folder of yours") from error
