"""`vos-umec results`: the page of results, written from where they are. Starts without torch."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from vos_umec.errors import ConfigError
from vos_umec.io.atomic import atomic_path
from vos_umec.training.ablation.page import make_page, scores_section, set_section

_Section = Callable[[], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of `vos-umec results`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> args = parser.parse_args(["--out", "results.md", "--scores", "A=a.json", "--set", "B=b", "C=c"])
        >>> len(args.sections)
        3
    """
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE", help="the Markdown file to write")
    # One list for both, since the page has its sections in the order in which they are given.
    parser.add_argument(
        "--set",
        dest="sections",
        action="extend",
        nargs="+",
        default=[],
        type=partial(_section, "--set", "TITLE=FOLDER", set_section),
        metavar="TITLE=FOLDER",
        help="sets of runs: the title of a section (up to the first =), and a folder of `vos-umec ablate`",
    )
    parser.add_argument(
        "--scores",
        dest="sections",
        action="extend",
        nargs="+",
        default=[],
        type=partial(_section, "--scores", "TITLE=FILE.json", scores_section),
        metavar="TITLE=FILE.json",
        help="the title of a section, and a score file of `vos-umec test` or `vos-umec evaluate --json`",
    )


def run(args: argparse.Namespace) -> int:
    """Write the page, whole or not at all.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        0, the exit status.

    Raises:
        DataError: A folder or a file is missing, or is not what its option takes.
        ConfigError: There is nothing to put on the page, or it cannot be written.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> run(parser.parse_args(["--out", "results.md"]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.ConfigError: nothing was measured: give --set TITLE=FOLDER...
    """
    if not args.sections:
        raise ConfigError("nothing was measured: give --set TITLE=FOLDER or --scores TITLE=FILE.json, or both")
    text = make_page([section() for section in args.sections])
    try:
        with atomic_path(args.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {args.out}: {error.strerror}; name a file in a folder of yours") from error
    print(f"{args.out} is written")
    return 0


def _section(option: str, form: str, make: Callable[[str, Path], str], value: str) -> _Section:
    """What makes a section of the page, from `TITLE=PLACE`."""
    title, _, place = value.partition("=")
    if not title.strip() or not place:
        raise ConfigError(f"{option} {value}: expected {form}, the title of a section and where its figures are")
    return partial(make, " ".join(title.split()), Path(place))
