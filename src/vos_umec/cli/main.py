"""`vos-umec`: one program to train, segment and score. Its help, and what needs no network, start without torch."""

import importlib
import inspect
import logging
import os
import re
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from vos_umec.errors import ConfigError, VosUmecError

COMMANDS = {
    "train on unlabelled video": {
        "demo": "train on made video, segment, score and show, in minutes",
        "prepare": "copy a folder of videos, so that training reads it many times faster",
        "fit": "train a network",
        "finetune": "train a model for some minutes more, on your own video",
        "cluster": "write the pseudo masks that a model gives a folder of videos",
    },
    "segment": {
        "segment": "segment one video from the mask of one frame",
        "predict": "write the masks of a whole data set",
        "export": "write a trained network as one small file",
    },
    "score": {
        "validate": "score a checkpoint on the validation sequences",
        "test": "score a checkpoint and two baselines",
        "evaluate": "score a folder of masks by the rules of DAVIS 2017 or YouTube-VOS",
        "submission": "check a folder of masks and zip it for the server of a benchmark",
    },
}
TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
"""The commands of LightningCLI, in trainer.py. Each other one is the function `run` of the module of its name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the program's name; None for the process's own.

    Returns:
        The exit status: 0; 1 after an error that the user can mend, which is printed in one line.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # OpenMP's threads spin while they wait, which makes everything five times slower where cores are busy, as they
    # are with loader workers. A short spin costs nothing elsewhere. It has to be set before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("vos_umec").setLevel(logging.INFO)
    sys.path.append(str(Path.cwd()))  # so that class_path finds the user's own modules; last, so that it hides none
    try:
        return run(words)
    except VosUmecError as error:
        print(f"vos-umec: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"vos-umec: error: {error}; check that the place exists and has space left", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vos-umec: interrupted", file=sys.stderr)
        return 130


def run(words: Sequence[str]) -> int:
    """Run one command; as `main`, but errors are raised. The exit status without a command is 2."""
    name = words[0] if words else ""
    if name in ("", "-h", "--help"):
        print(_overview())
        return 0 if name else 2
    if name == "--version":
        print(f"vos-umec {version('vos-umec')}")
    elif name in TRAINER_COMMANDS:
        importlib.import_module("vos_umec.cli.trainer").run(words)
    elif any(name in commands for commands in COMMANDS.values()):
        command = importlib.import_module(f"vos_umec.cli.{name}")
        given = _parser(name, command).parse_args([_underscored(word) for word in words[1:]], defaults=False)
        command.run(**given.as_dict())
    else:
        known = ", ".join(command for commands in COMMANDS.values() for command in commands)
        raise ConfigError(f"unknown command {name}; the commands are {known}")
    return 0


def lightning() -> int:
    """Run `lightning ...`: fit, validate, test and predict here, any other word by lightning-sdk.

    pytorch-lightning installs no command, while lightning-sdk owns one named `lightning`. Of two packages with the
    same command the one installed last wins, so ours hands over every word that it does not know.
    """
    words = sys.argv[1:]
    if words and words[0] in TRAINER_COMMANDS:
        return main(words)
    try:
        scripts = distribution("lightning-sdk").entry_points.select(group="console_scripts", name="lightning")
    except PackageNotFoundError:
        print(
            f"lightning: vos-umec installed this command, which runs {', '.join(TRAINER_COMMANDS)}. Other words "
            "need `pip install lightning-sdk`. For the other commands of vos-umec: vos-umec --help",
            file=sys.stderr,
        )
        return 0 if words in ([], ["--help"], ["-h"]) else 2
    return int(next(iter(scripts)).load()() or 0)


def find_config(value: str) -> Path:
    """The configuration file that `--config` names: a file, or else one of this package.

    Those of this package may be named with or without `configs/`, as "configs/folder.yaml" or "folder.yaml".

    Raises:
        ConfigError: There is neither.
    """
    if Path(value).is_file():
        return Path(value)
    package = Path(str(files("vos_umec")))
    folders = (package.parents[1] / "configs", package / "configs")  # of an editable checkout; of a wheel
    shipped = {path.relative_to(f).as_posix(): path for f in folders for path in f.rglob("*.yaml")}
    name = Path(value).as_posix().removeprefix("configs/")
    if name in shipped:
        return shipped[name]
    known = sorted(other for other in shipped if Path(other).parent == Path(name).parent)
    known = known or sorted(other for other in shipped if "/" not in other)
    raise ConfigError(f"no configuration file {value}; give a file, or one of: {', '.join(known)}")


class Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what jsonargparse reports as a ConfigError, without Python's names of types."""
        lines = [line.strip(" -") for line in str(message).splitlines() if line.strip(" -")]
        if "Errors:" in lines:  # one for each type that the argument may have; the first is the type that was meant
            first = lines.index("Errors:") + 1
            last = lines[-1].replace("Given value", ". Got value")
            lines = [lines[0], *lines[first : first + (2 if lines[first].endswith(":") else 1)]]
            lines[1] += last if lines[1].endswith(">") and "Nested" not in last else ""
        text = re.sub(r'Parser key "([\w.]+)"', r"\1", " ".join(lines))
        raise ConfigError(re.sub(r"<class '([\w.]+)'>", r"\1", text).replace("typing.", "")) from ex


class _Help(RawDescriptionHelpFormatter):
    """Shows the default of each option, without its type; null is how a value of None is given."""

    def _get_help_string(self, action: Any) -> str:
        text = re.sub(r"\bNone\b", "null", (action.help or "").replace("%", "%%").replace("`", ""))
        plain = isinstance(action.default, str | int | float | Path) and action.option_strings
        return f"{text} (default: %(default)s)" if plain and action.dest != "help" else text


def _overview() -> str:
    lines = [
        "usage: vos-umec COMMAND ...",
        "",
        "Self-supervised video object segmentation: train on unlabelled video, segment any object from one mask,",
        "score exactly.",
    ]
    for title, commands in COMMANDS.items():
        lines += ["", f"{title}:", *(f"  {name:<12}{text}" for name, text in commands.items())]
    return "\n".join([*lines, "", "The options of a command and an example: vos-umec COMMAND --help"])


def _parser(name: str, command: Any) -> Parser:
    """The parser of a command, made of the signature and docstring of its `run`.

    Parameters before the `*` are positional, those after it are options. Where the command's module has `SETTINGS`,
    {title of a group: classes or functions}, their arguments with a default are options too; `run` takes what was
    given of them as `**settings`.
    """
    parser = Parser(prog=f"vos-umec {name}", description=command.__doc__, formatter_class=_Help, allow_abbrev=False)
    settings = getattr(command, "SETTINGS", {})
    of_settings: set[str | int] = {
        key for owners in settings.values() for owner in owners for key in _parameters(owner)
    }
    parameters = _parameters(command.run)
    options: set[str | int] = {key for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    positional: set[str | int] = set(parameters) - options
    add_own = partial(parser.add_function_arguments, command.run, as_group=False)
    add_own(as_positional=True, skip=(options | of_settings) - positional)
    add_own(skip=positional | of_settings - options)
    for title, owners in settings.items():
        group = parser.add_argument_group(title)
        for owner in owners:
            required: set[str | int] = {key for key, p in _parameters(owner).items() if p.default is p.empty}
            add = group.add_class_arguments if inspect.isclass(owner) else group.add_function_arguments
            add(owner, as_group=False, skip=required | {"readout"})
    return parser


def _parameters(owner: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(owner).parameters


def _underscored(word: str) -> str:
    """`--short-side` is the option that is shown as `--short_side`."""
    option, equals, value = word.partition("=")
    return f"--{option[2:].replace('-', '_')}{equals}{value}" if word.startswith("--") else word


if __name__ == "__main__":  # for `python -m`, which finds this package where no script is on the path
    sys.exit(main())
