"""`vos-umec`: one program to train, segment and score. Its help, and what needs no network, start without torch."""

import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from vos_umec.cli.noise import hide_noise
from vos_umec.cli.parsing import command_parser, plain_words
from vos_umec.errors import ConfigError, VosUmecError
from vos_umec.progress import phase

log = logging.getLogger(__name__)

COMMANDS = {
    "train on unlabelled video": {
        "demo": "train on made video, segment, score and show, in minutes",
        "prepare": "copy a folder of videos, so that training reads it many times faster",
        "fit": "train a network",
        "finetune": "train a model for some minutes more, on your own video",
        "cluster": "write the pseudo masks that a model gives a folder of videos",
    },
    "segment": {
        "app": "draw, follow and correct objects in the browser",
        "segment": "segment one video from the mask of one frame",
        "predict": "write the masks of a whole data set",
        "export": "write a trained network to share it: a file, a folder with a card, ONNX",
    },
    "score": {
        "validate": "score a checkpoint on the validation sequences",
        "test": "score a checkpoint and two baselines",
        "evaluate": "score a folder of masks by the rules of DAVIS 2017 or YouTube-VOS",
        "horizon": "score a model some frames after the true masks, beside label propagation",
        "report": "write one HTML page of a run: curves, masks, scores, frames",
        "submission": "check a folder of masks and zip it for the server of a benchmark",
    },
}
RENAMED = {"adapt": "finetune", "pack": "submission"}
"""Commands of version 0.1, which go on to work under their old names."""
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
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("vos_umec").setLevel(logging.INFO)
    hide_noise()
    for stream in (sys.stdout, sys.stderr):  # a name that the console cannot show must not stop the work
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            here = str(Path.cwd())
        except FileNotFoundError as error:
            raise ConfigError("the current folder is gone; go to another one") from error
        sys.path.append(here)  # so that class_path finds the user's own modules; last, so that it hides none
        return run(words)
    except VosUmecError as error:
        print(f"vos-umec: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has enough, as `| head`; what was to be written is
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"vos-umec: error: {error}; check that the place exists and has space left", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        print(
            "vos-umec: error: there is not enough memory; a smaller --short_side, fewer --references or, in "
            "training, a smaller batch or crop need less",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("vos-umec: interrupted", file=sys.stderr)
        return 130


def run(words: Sequence[str]) -> int:
    """Run one command; as `main`, but errors are raised. The exit status without a command is 2."""
    name = words[0] if words else ""
    if name in RENAMED:
        log.warning("%s is called %s since version 0.2", name, RENAMED[name])
        name = RENAMED[name]
    if name in ("", "-h", "--help"):
        print(_overview())
        return 0 if name else 2
    if name == "--version":
        print(f"vos-umec {version('vos-umec')}")
    elif any(name in commands for commands in COMMANDS.values()):
        # The app waits for its user, which is no work to tell of every half minute.
        with nullcontext() if name == "app" else phase(f"{name} is at work"):
            _run_command(name, words)
    else:
        known = ", ".join(command for commands in COMMANDS.values() for command in commands)
        raise ConfigError(f"unknown command {name}; the commands are {known}")
    return 0


def _run_command(name: str, words: Sequence[str]) -> None:
    with phase("loading libraries"):
        command = importlib.import_module(f"vos_umec.cli.{'trainer' if name in TRAINER_COMMANDS else name}")
    if name in TRAINER_COMMANDS:
        command.run(words)
        return
    given = command_parser(name, command).parse_args(plain_words(command, words[1:]), defaults=False)
    command.run(**given.as_dict())


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


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is used up; torch has no class of its own for a CPU's."""
    return isinstance(error, MemoryError) or any(
        words in str(error)
        for words in ("out of memory", "can't allocate memory", "Storage size calculation overflow")
    )


def _overview() -> str:
    lines = [
        "usage: vos-umec COMMAND ...",
        "",
        "Self-supervised video object segmentation: train on unlabelled video, segment any object from one mask,",
        "score exactly.",
    ]
    for title, commands in COMMANDS.items():
        lines += ["", f"{title}:", *(f"  {name:<12}{text}" for name, text in commands.items())]
    lines += ["", "The options of a command and an example: vos-umec COMMAND --help"]
    return "\n".join([*lines, "Words of an option may be joined by - or by _, as in --short-side."])


if __name__ == "__main__":  # for `python -m`, which finds this package where no script is on the path
    sys.exit(main())
