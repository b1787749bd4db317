"""``vos-umec evaluate``: score a folder of results. Starts without torch."""

import argparse
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from vos_umec.data.layouts import davis_sequences
from vos_umec.errors import ConfigError
from vos_umec.io.atomic import atomic_path
from vos_umec.metrics.results import evaluate_results, print_table
from vos_umec.metrics.score_files import available_cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of ``vos-umec evaluate``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["results", "--root", "DAVIS"]).split
        'val'
    """
    parser.add_argument("results", type=Path, help="folder of indexed PNGs, <sequence>/<frame>.png")
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set, with its Annotations")
    parser.add_argument("--dataset", choices=["davis17"], default="davis17", help="rules to score by")
    parser.add_argument("--split", default="val", help="list of the sequences to score (default: val)")
    parser.add_argument(
        "--workers",
        type=int,
        default=available_cores(),
        metavar="N",
        help="processes, which do not change the scores (default: the cores there are, here %(default)s)",
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
        ConfigError: The JSON file cannot be written, or there are no workers.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> run(parser.parse_args(["results", "--root", "no/such/folder"]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder/JPEGImages: ...
    """
    sequences = davis_sequences(args.root, args.split)
    console = Console(stderr=True)
    progress = partial(
        track, description="scoring", console=console, transient=True, disable=not console.is_terminal
    )
    scores = evaluate_results(args.results, sequences, progress=progress, workers=args.workers)
    print_table(scores.table())
    if args.json is not None:
        _write(args.json, scores.to_json())
    return 0


def _write(path: Path, text: str) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; name a file in a folder of yours") from error
