"""What a set was run with, kept in its folder, so that its figures can be reported later. Imports no torch."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

from vos_umec.errors import DataError
from vos_umec.io.atomic import atomic_path
from vos_umec.training.ablation.plan import Setting

RECORD = "setting.json"


@dataclass(frozen=True)
class SettingRecord:
    """What a reader of a set's table has to know, and which results are of it.

    Attributes:
        fingerprint: Of the setting; results of others may lie in the same folder.
        base: Name of the base configuration's file, or names of its files.
        extra: Further arguments of `vos-umec fit`.
        split: List of the sequences that were scored.
    """

    fingerprint: str
    base: str
    extra: list[str]
    split: str


def write_record(setting: Setting) -> None:
    """Keep a setting in the folder of its set, in place of the one that was run there before.

    Args:
        setting: The setting.
    """
    record = SettingRecord(setting.fingerprint, setting.base_name, list(setting.extra), setting.split)
    with atomic_path(setting.out / RECORD) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> SettingRecord:
    """The setting that was run last in the folder of a set.

    Args:
        folder: Folder of the set.

    Raises:
        DataError: If the folder does not tell.

    Example:
        >>> read_record(Path("no/such/folder"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no/such/folder has no setting.json, which says what its results ...
    """
    again = (
        "run the same `vos-umec ablate` command again (the same content of --base, the same --davis and arguments "
        "after --), which finishes at once where all runs are finished"
    )
    try:
        return SettingRecord(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise DataError(f"{folder} has no {RECORD}, which says what its results were run with; {again}") from error
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder / RECORD} is not what `vos-umec ablate` writes ({error}); {again}") from error


def without_paths(arguments: Sequence[str]) -> str:
    """Arguments of a command as one line, each path replaced by the upper-case name of its option.

    What has a slash or a home in it is taken for a path, and whatever goes to a root.

    Args:
        arguments: As the command got them, values after `=` or on their own.

    Example:
        >>> without_paths(["--data.root=/disk/videos", "--budget.minutes=10", "--config", "other/base.yaml"])
        '--data.root=ROOT --budget.minutes=10 --config CONFIG'
    """
    shown, option = [], ""
    for argument in arguments:
        named = argument.startswith("-") and not argument[1:2].isdigit()
        if named:
            option, equals, value = argument.partition("=")
        else:
            equals, value = "", argument
        name = option.lstrip("-").rpartition(".")[2]
        if value and (name.endswith("root") or value.startswith("~") or "/" in value or "\\" in value):
            value = name.upper() or "PATH"
        elif value:
            value = quote(value)
        shown.append(f"{option}{equals}{value}" if named else value)
    return " ".join(shown)
