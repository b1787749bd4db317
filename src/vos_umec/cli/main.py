"""`vos-umec`: one program for training, testing, segmenting, scoring. Its help starts without torch."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vos_umec.cli.commands import COMMANDS, TRAINER_COMMANDS
from vos_umec.errors import VosUmecError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the program's name; None for the process's own.

    Returns:
        The exit status: 0, or 1 for an error that is the user's to mend, told in one line.

    Example:
        >>> main(["evaluate", "no/results", "--root", "no/data"])
        1
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # OpenMP's threads spin while they wait, which where cores are busy (loader workers!) makes everything five
    # times slower; a short spin costs nothing where they are idle. It counts only if set before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("vos_umec").setLevel(logging.INFO)
    sys.path.append(str(Path.cwd()))  # so that class_path finds the user's own modules; last, to hide no others
    try:
        if arguments and arguments[0] in TRAINER_COMMANDS:
            # LightningCLI has its own parser, and importing it takes seconds: only where it is needed.
            return int(importlib.import_module("vos_umec.cli.trainer").run(arguments))
        parser = _parser(arguments[0] if arguments else None)
        args = parser.parse_args(arguments)
        if args.command is None:
            parser.print_help()
            return 2
        return int(importlib.import_module(f"vos_umec.cli.{args.command}").run(args))
    except VosUmecError as error:
        print(f"vos-umec: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a place that cannot be written, a disk that is full
        print(f"vos-umec: error: {error}; check the place and the room there", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vos-umec: interrupted", file=sys.stderr)
        return 130


def _parser(command: str | None) -> argparse.ArgumentParser:
    """The parser, with the arguments of the one command that is asked for."""
    parser = argparse.ArgumentParser(
        prog="vos-umec",
        description="Self-supervised video object segmentation: train on unlabelled video, segment any object "
        "from one mask, score exactly.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in TRAINER_COMMANDS.items():
        commands.add_parser(name, help=text)
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == command:
            importlib.import_module(f"vos_umec.cli.{name}").add_arguments(sub)
    return parser


def _version() -> str:
    from importlib.metadata import version  # costs a tenth of a second; only for --version and the help

    return f"vos-umec {version('vos-umec')}"


if __name__ == "__main__":  # for `python -m`, which finds this package where no script is on the path
    sys.exit(main())
