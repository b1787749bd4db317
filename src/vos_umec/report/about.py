"""What was run, as facts for the page, and what the page lacks."""

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from vos_umec.progress import duration
from vos_umec.report.run_files import RunFiles

_SETTINGS = {
    "network": ("model", "init_args", "network"),
    "objectives": ("model", "init_args", "objectives"),
    "learning rate": ("model", "init_args", "learning_rate"),
    "started from": ("model", "init_args", "init_from"),
    "data": ("data", "class_path"),
    "videos in": ("data", "init_args", "root"),
    "batch size": ("data", "init_args", "batch_size"),
    "crop": ("data", "init_args", "crop"),
    "epochs": ("trainer", "max_epochs"),
    "warm-up epochs": ("refresh", "warmup_epochs"),
    "refresh every": ("refresh", "every_n_epochs"),
    "clusters": ("refresh", "clusters"),
    "minutes": ("budget", "minutes"),
    "seed": ("seed_everything",),
}


def shell_command(record: Mapping[str, Any]) -> str:
    """The command of a record as it is typed; empty if there is none.

    Example:
        >>> shell_command({"command": ["vos-umec", "fit", "--data.root", "my videos"]})
        "vos-umec fit --data.root 'my videos'"
    """
    return shlex.join(map(str, record.get("command", [])))


def facts(run: RunFiles) -> list[tuple[str, str]]:
    """Name and value of what is known of a run: time, versions, hardware, settings."""
    record = run.record or next((each.about for each in run.scores if each.about), {})
    found: list[tuple[str, str]] = []
    if started := record.get("started"):
        found.append(("started", str(started)))
    if seconds := record.get("seconds"):
        found.append(("took", f"{duration(float(seconds))}, {record.get('outcome', 'ended')}"))
    elif run.record:
        found.append(("took", "unknown: the run goes on, or was ended from outside"))
    found += [(name, str(record[name])) for name in ("results", "root", "dataset", "split") if name in record]
    for group in ("hardware", "versions"):
        found += [(str(name), str(value)) for name, value in dict(record.get(group, {})).items()]
    for content in run.horizons.values():
        found += [("checkpoint", str(content["checkpoint"]))] if "checkpoint" in content else []
    return found + _settings(run.config)


def _settings(config: str) -> list[tuple[str, str]]:
    try:
        content = yaml.safe_load(config) if config else {}
    except yaml.YAMLError:
        return []
    found = []
    for name, keys in _SETTINGS.items():
        value: Any = content
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value not in (None, [], {}):
            found.append((name, _short(value)))
    return found


def _short(value: Any) -> str:
    """A setting in few words: a class by its name, a mapping by what it sets."""
    if isinstance(value, list):
        return ", ".join(_short(each) for each in value)
    if isinstance(value, Mapping):
        if "class_path" in value:
            return _short(value["class_path"])
        return ", ".join(f"{key} {_short(each)}" for key, each in value.items() if each is not None)
    text = str(value)
    return text.rsplit(".", 1)[-1] if text.startswith("vos_umec.") else text


def find_missing(run: RunFiles, drawn: bool) -> list[tuple[str, str]]:
    """What the page lacks, each with the command that makes it.

    Args:
        run: The run.
        drawn: Whether the page shows best and worst frames.
    """
    missing = []
    if not run.metrics:
        missing.append(
            ("losses and scores over training", "`vos-umec fit` writes metrics.csv into the run's folder")
        )
    elif not any(name.endswith("/J&F") for name in run.metrics):
        missing.append(
            ("scores over training", "`vos-umec fit` with --data.val_root DAVIS scores while it trains"),
        )
    if run.metrics and not run.refreshes:
        missing.append(
            (
                "pictures of the pseudo masks",
                "`vos-umec fit` trains on beyond refresh.warmup_epochs; see --refresh.pictures",
            )
        )
    if not run.scores:
        missing.append(
            ("scores by sequence beside two baselines",
             "`vos-umec test --config configs/davis17.yaml --data.root DAVIS --ckpt_path CKPT`, or "
             "`vos-umec evaluate RESULTS --root DAVIS --json scores.json`"),
        )  # fmt: skip
    elif not any(each.curves for each in run.scores):
        missing.append(("J&F over time", "the same scores, written again by `vos-umec test` or `evaluate --json`"))
    elif not drawn:
        missing.append(
            ("best and worst frames", "`evaluate --json` with the masks and DAVIS still in place, or `test`")
        )
    if not run.horizons:
        missing.append(("J&F by horizon", "`vos-umec horizon --root DAVIS --out RUN`"))
    if not run.record and not any(each.about for each in run.scores):
        missing.append(("command, versions and hardware", "`fit`, `validate`, `test` and `predict` write run.json"))
    return missing
