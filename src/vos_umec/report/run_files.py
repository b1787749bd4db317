"""What the folder of a run holds: figures, settings, scores, pictures. It imports no torch."""

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from vos_umec.errors import DataError
from vos_umec.metrics.sequence import Row
from vos_umec.viz.pairs import read_description

RECORD = "run.json"
"""Command, versions, hardware and time of a run."""
_CONFIGS = ("config.yaml", "vos_umec_config.yaml")
_PICTURES = ("results.png", "result.png", "validation.png", "before_and_after.png", "contact_sheet.png")
_REFRESH = re.compile(r"refresh_(\d+)_(.+)\.png")

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class ScoreFile:
    """Scores of one method, as `test` and `evaluate --json` write them.

    Attributes:
        method: Name of the file.
        means: Means over all objects, as fractions, by figure.
        objects: A row for each object.
        curves: J and F of each scored frame, a mapping for each object.
        about: Where the masks and the truth are, if the file says so.
    """

    method: str
    means: dict[str, float]
    objects: list[Row]
    curves: list[dict[str, Any]]
    about: dict[str, Any]


@dataclass(frozen=True)
class Overlay:
    """A picture of one frame, the truth beside the prediction.

    Attributes:
        path: The PNG.
        about: `split`, `step`, `sequence`, `frame`, `kind` ("shown", "best" or "worst") and `J&F`, a fraction.
    """

    path: Path
    about: dict[str, Any]


@dataclass
class RunFiles:
    """All that a page can show of a run.

    Attributes:
        folder: The folder that was named.
        record: What `run.json` says.
        config: The text of the configuration.
        metrics: By name of a column of metrics.csv, the (step, value) of each row that has one.
        epochs: The (step, epoch) of each row that has one.
        refreshes: Number of a refresh -> video -> picture of its pseudo masks.
        overlays: Pictures of single frames.
        scores: Scores by method, the model's first.
        horizons: What horizon.json says, by name of the file.
        pictures: Other pictures.
        not_finite: What not_finite.json says of the loss that ended the run.
    """

    folder: Path
    record: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    metrics: dict[str, Curve] = field(default_factory=dict)
    epochs: Curve = field(default_factory=list)
    refreshes: dict[int, dict[str, Path]] = field(default_factory=dict)
    overlays: list[Overlay] = field(default_factory=list)
    scores: list[ScoreFile] = field(default_factory=list)
    horizons: dict[str, dict[str, Any]] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)
    not_finite: dict[str, Any] = field(default_factory=dict)


def read_run(place: Path) -> RunFiles:
    """Read what a page can show of a run.

    Args:
        place: The folder of a run, one with such folders in it (the newest is taken), a folder of scores, or one
            file of scores.

    Raises:
        DataError: There is no such place, there is nothing to show in it, or a file is broken.
    """
    if not place.exists():
        raise DataError(f"no run at {place}: expected the folder that `fit`, `test` or `demo` wrote, or scores")
    run = RunFiles(place)
    if place.is_file():
        _read_scores(run, [place])
        if not run.scores and not run.horizons:
            raise DataError(f"{place} holds no scores; expected a file of `test`, `evaluate --json` or `horizon`")
        return run
    folders = [place, *_runs_inside(place)] if not _is_run(place) else [place]
    for folder in folders:
        _read_folder(run, folder)
    _read_scores(run, sorted({*place.glob("*.json"), *(f for each in folders for f in each.glob("scores/*.json"))}))
    if not any((run.metrics, run.refreshes, run.overlays, run.scores, run.horizons, run.not_finite, run.record)):
        raise DataError(
            f"{place} holds nothing that a report could show: expected metrics.csv, scores/*.json or horizon.json; "
            "give the folder of a run, such as runs/folder/version_0"
        )
    return run


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (*_CONFIGS, "metrics.csv", RECORD))


def _runs_inside(place: Path) -> list[Path]:
    """The newest run in `place/NAME/version_N` or `place/version_N`, as `demo` and `finetune` leave it."""
    runs = [path for path in (*place.glob("version_*"), *place.glob("*/version_*")) if _is_run(path)]
    return sorted(runs, key=lambda path: path.stat().st_mtime)[-1:]


def _read_folder(run: RunFiles, folder: Path) -> None:
    if (folder / RECORD).is_file():
        run.record = _json(folder / RECORD)
    if (folder / "not_finite.json").is_file():
        run.not_finite = _json(folder / "not_finite.json")
    for name in _CONFIGS:
        if (folder / name).is_file() and _is_own_config(folder / name):
            run.config = (folder / name).read_text(encoding="utf-8", errors="replace")
    if (folder / "metrics.csv").is_file():
        run.metrics, run.epochs = read_metrics(folder / "metrics.csv")
    for path in sorted((folder / "pseudo_masks" / "pictures").glob("refresh_*.png")):
        if found := _REFRESH.fullmatch(path.name):
            run.refreshes.setdefault(int(found[1]), {})[unquote(found[2])] = path
    for path in sorted((folder / "overlays").glob("*.png")):
        if about := read_description(path):
            run.overlays.append(Overlay(path, about))
    run.pictures += [folder / name for name in _PICTURES if (folder / name).is_file()]


def read_metrics(path: Path) -> tuple[dict[str, Curve], Curve]:
    """The columns of a CSVLogger's file.

    Returns:
        By name, (step, value) of each row that has a finite value, in the order of the steps; and (step, epoch).

    Raises:
        DataError: The file is no such table.
    """
    columns: dict[str, Curve] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                step = float(row.pop("step") or "nan")
                for name, text in row.items():
                    if text and math.isfinite(value := float(text)) and math.isfinite(step):
                        columns.setdefault(name, []).append((step, value))
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(
            f"{path} is no table of figures ({type(error).__name__}: {error}); it should have a column `step` and "
            "numbers in the others: remove the broken lines"
        ) from error
    ordered = {name: sorted(curve, key=lambda point: point[0]) for name, curve in columns.items()}
    return ordered, ordered.pop("epoch", [])


def _is_own_config(path: Path) -> bool:
    """Whether a configuration is one of a run; a broken one is shown as it is."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
    except yaml.YAMLError:
        return True
    return isinstance(content, dict)


def _read_scores(run: RunFiles, files: list[Path]) -> None:
    for path in files:
        content = _json(path)
        if _is_horizon(content):
            run.horizons[path.stem] = content
        elif isinstance(rows := content.get("objects"), list) and rows and _are_scores(rows):
            means = {key: value for key, value in content.items() if isinstance(value, int | float)}
            about = dict(content.get("about", {}))
            for place in ("results", "root"):  # they are told from the file's folder on
                if place in about:
                    about[place] = str((path.parent / str(about[place])).resolve())
            run.scores.append(ScoreFile(path.stem, means, rows, content.get("curves", []), about))
    run.scores.sort(key=lambda scores: (is_baseline(scores.method), not scores.method.endswith("umec")))


def is_baseline(method: str) -> bool:
    """Whether a method is one that `test` scores beside the model."""
    return method.startswith("copy_") or method.endswith("label_propagation")


def _are_scores(rows: list[Any]) -> bool:
    return all(isinstance(row, dict) and {"sequence", "object", "J-Mean", "F-Mean"} <= row.keys() for row in rows)


def _is_horizon(content: dict[str, Any]) -> bool:
    lines = content.get("summary")
    return isinstance(lines, list) and all(isinstance(x, dict) and "horizon" in x and "method" in x for x in lines)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as JSON ({error}): remove it, or run the command that wrote it again"
        ) from error
    return content if isinstance(content, dict) else {}


def last(curve: Curve) -> float:
    """The value of the last step.

    Example:
        >>> last([(0, 0.5), (10, 0.25)])
        0.25
    """
    return curve[-1][1]


def by_sequence(rows: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each sequence, in the order of the file."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(str(row["sequence"]), []).append(row)
    yield from grouped.items()
