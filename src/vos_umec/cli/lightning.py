"""`lightning`: fit, validate, test and predict are ours; any other word goes to lightning-sdk."""

import sys
from importlib.metadata import PackageNotFoundError, distribution

from vos_umec.cli.commands import TRAINER_COMMANDS
from vos_umec.cli.main import main as vos_umec_main

_SDK = "lightning-sdk"


def main() -> int:
    """Run `lightning ...`.

    pytorch-lightning installs no command of its own, while lightning-sdk owns one named `lightning`. Installed
    side by side the last one wins, so ours hands on every word it does not know.

    Returns:
        The exit status.
    """
    words = sys.argv[1:]
    if words and words[0] in TRAINER_COMMANDS:
        return vos_umec_main(words)
    try:
        scripts = distribution(_SDK).entry_points.select(group="console_scripts", name="lightning")
    except PackageNotFoundError:
        known = ", ".join(TRAINER_COMMANDS)
        print(
            f"lightning: this is the command of vos-umec, which runs {known}; other words need {_SDK} "
            f"(pip install {_SDK}). For the rest of vos-umec: vos-umec --help",
            file=sys.stderr,
        )
        return 0 if words in ([], ["--help"], ["-h"]) else 2
    status = next(iter(scripts)).load()()
    return int(status or 0)
