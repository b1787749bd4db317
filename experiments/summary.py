"""What a set leaves in its folder: setting.json, table.md, table.csv, table.png and log.md. Imports no torch."""

import csv
import json
import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from plan import Setting
from vos_umec.io.atomic import atomic_path

log = logging.getLogger(__name__)

RESULT, FAILED, RECORD = "result.json", "failed.json", "setting.json"
METHODS = {"umec": "whole model", "label_propagation": "label propagation"}
FIGURES = ("J&F", "J", "F")
PUBLISHED: Mapping[str, Any] = yaml.safe_load(
    Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")
)

_LOG_HEAD = ["cell", "seed", "training", "minutes", "J&F", "label propagation", "J&F by sequence"]


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation in per cent; the latter is None for one seed."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, fractions: Sequence[float]) -> "Spread":
        """Spread of one figure over the seeds, from fractions.

        Example:
            >>> str(Spread.of([0.70, 0.72])), str(Spread.of([0.5]))
            ('71.0 ± 1.4', '50.0')
        """
        values = [100 * value for value in fractions]
        return cls(mean(values), stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.deviation is None else f"{self.mean:.1f} ± {self.deviation:.1f}"


@dataclass(frozen=True)
class Line:
    """One cell of a set.

    Attributes:
        cell: Its name.
        seeds: The seeds that are finished.
        minutes: Minutes of training, mean over the seeds; None without a result.
        speed: Frames a second of inference, mean over the seeds; None where none was measured.
        figures: By method and figure, as "umec J&F", and J&F of the whole model by sequence, as "umec J&F dog".
        failures: Reason of each seed that failed.
    """

    cell: str
    seeds: list[int]
    minutes: float | None
    speed: float | None
    figures: dict[str, Spread]
    failures: dict[int, str]

    @property
    def paper(self) -> float | None:
        """J&F that the paper reports, in per cent, if it does."""
        figure: float | None = PUBLISHED["cells"].get(self.cell)
        return figure

    @property
    def paper_speed(self) -> float | None:
        """Frames a second that the paper reports, on its own GPU, if it does."""
        speed: float | None = PUBLISHED["frames_per_second"].get(self.cell)
        return speed


def write_summary(setting: Setting) -> None:
    """Write the setting and the tables of all its results into its folder, and log the runs that are new."""
    record: dict[str, Any] = {"fingerprint": setting.fingerprint, "base": setting.base_name}
    record |= {"extra": setting.extra, "split": setting.split}
    results = read_outcomes(setting.out, setting.fingerprint)
    lines = make_lines(results, read_outcomes(setting.out, setting.fingerprint, FAILED))
    write_text(setting.out / RECORD, json.dumps(record, indent=2) + "\n")
    write_text(setting.out / "table.md", markdown(lines))
    write_text(setting.out / "table.csv", comma_separated(lines))
    _plot(lines, setting.out / "table.png")
    _log_runs(results, setting.out / "log.md")


def read_outcomes(folder: Path, setting: str, name: str = RESULT) -> list[dict[str, Any]]:
    """The results in the folder of a set, by cell and seed.

    Args:
        folder: Folder of the set.
        setting: Fingerprint of the setting; results of other settings are not comparable and are left out.
        name: The file; `FAILED` for the runs that failed.
    """
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob(f"*/seed_*/{name}")]
    return sorted(
        (each for each in found if each["setting"] == setting),
        key=lambda each: (natural(each["cell"]), each["seed"]),
    )


def make_lines(results: Sequence[Mapping[str, Any]], failures: Sequence[Mapping[str, Any]] = ()) -> list[Line]:
    """One line for each cell, in the natural order of their names."""
    lines = []
    for cell in sorted({each["cell"] for each in (*results, *failures)}, key=natural):
        figures: dict[str, list[float]] = defaultdict(list)
        finished = [each for each in results if each["cell"] == cell]
        speeds = [each["frames_per_second"] for each in finished if "frames_per_second" in each]
        for each in finished:
            for method in METHODS:
                for figure in FIGURES:
                    figures[f"{method} {figure}"].append(each["scores"][method][figure])
            for sequence, value in each["scores"]["umec"]["sequences"].items():
                figures[f"umec J&F {sequence}"].append(value)
        lines.append(
            Line(
                cell,
                [each["seed"] for each in finished],
                mean(each["minutes"] for each in finished) if finished else None,
                mean(speeds) if speeds else None,
                {name: Spread.of(values) for name, values in figures.items()},
                {each["seed"]: each["reason"] for each in failures if each["cell"] == cell},
            )
        )
    return lines


def markdown(lines: Sequence[Line]) -> str:
    """The table as Markdown; each failed run has a row of its own. There are speeds where any was measured."""
    names = {f"{method} {figure}": f"{title}, {figure}" for method, title in METHODS.items() for figure in FIGURES}
    timed = any(line.speed is not None for line in lines)
    speeds = ["frames a second", "paper's frames a second"] if timed else []
    rows = [["cell", "seeds", *names.values(), "minutes", "paper's J&F", *speeds]]
    for line in lines:
        if line.seeds:
            figures = [str(line.figures[name]) for name in names]
            row = [line.cell, str(len(line.seeds)), *figures, f"{line.minutes:.1f}", _number(line.paper, 1)]
            rows.append(row + ([_number(line.speed, 2), _number(line.paper_speed, 2)] if timed else []))
        for seed, reason in sorted(line.failures.items()):
            rows.append([f"{line.cell}, seed {seed}", f"failed: {reason}", *[""] * (len(rows[0]) - 2)])
    head = "Per cent; mean ± sample standard deviation over the seeds, where there are several.\n\n"
    return head + markdown_table(rows)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table; the first is its head."""
    return "".join(map(_markdown_row, [rows[0], ["---"] * len(rows[0]), *rows[1:]]))


def comma_separated(lines: Sequence[Line]) -> str:
    """The table as CSV, with J&F by sequence and all digits."""
    names = [f"{method} {figure}" for method in METHODS for figure in FIGURES]
    names += sorted({name for line in lines for name in line.figures} - set(names))
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    pairs = [title for name in names for title in (name, f"{name} deviation")]
    facts = ["minutes", "frames a second", "paper J&F", "paper frames a second"]
    writer.writerow(["cell", "seeds", *facts, *pairs, "failed"])
    for line in lines:
        spreads = [line.figures.get(name) for name in names]
        numbers = [value for each in spreads for value in ((each.mean, each.deviation) if each else (None, None))]
        failed = "; ".join(f"seed {seed}: {reason}" for seed, reason in sorted(line.failures.items()))
        row = [line.cell, len(line.seeds), line.minutes, line.speed, line.paper, line.paper_speed]
        writer.writerow([*row, *numbers, failed])
    return text.getvalue()


def natural(name: str) -> list[tuple[bool, float, str]]:
    """A key that sorts names by the numbers in them.

    Example:
        >>> sorted(["4c_M10", "4b_first_7", "4c_M2", "4b_first", "position_0.25", "position_0"], key=natural)
        ['4b_first', '4b_first_7', '4c_M2', '4c_M10', 'position_0', 'position_0.25']
    """
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(bool(i % 2), float(part) if i % 2 else 0.0, part) for i, part in enumerate(parts)]


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |\n"


def _log_runs(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Append each run once; the row stays when its cell is changed and run again."""
    logged = path.read_text(encoding="utf-8") if path.is_file() else markdown_table([_LOG_HEAD])
    new = []
    for result in results:
        whole, propagation = (result["scores"][method] for method in METHODS)
        figures = [f"{result['minutes']:.1f}", f"{100 * whole['J&F']:.1f}", f"{100 * propagation['J&F']:.1f}"]
        sequences = ", ".join(f"{name} {100 * value:.1f}" for name, value in whole["sequences"].items())
        row = _markdown_row([result["cell"], str(result["seed"]), result["training"], *figures, sequences])
        new += [row] if row not in logged else []
    if new:
        write_text(path, logged + "".join(new))


def _plot(lines: Sequence[Line], path: Path) -> None:
    """Draw J&F of each cell with its spread, by the whole model and label propagation, and the paper's figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no table.png: matplotlib is not installed; pip install 'vos-umec[plots]'")
        return
    lines = [line for line in lines if line.seeds]
    figure = Figure(figsize=(7, 1.2 + 0.35 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for (method, title), marker, shift in zip(METHODS.items(), "os", (-0.12, 0.12), strict=True):
        spreads = [line.figures[f"{method} J&F"] for line in lines]
        means, errors = [each.mean for each in spreads], [each.deviation or 0.0 for each in spreads]
        places = [place + shift for place in range(len(lines))]
        axes.errorbar(means, places, xerr=errors, fmt=marker, capsize=3, label=title)
    paper = [(line.paper, place) for place, line in enumerate(lines) if line.paper is not None]
    if paper:
        axes.plot(*zip(*paper, strict=True), "x", color="grey", label="the paper, full scale")
    axes.set_yticks(range(len(lines)), [f"{line.cell} (n={len(line.seeds)})" for line in lines])
    axes.invert_yaxis()  # the first cell on top
    axes.set_xlabel("J&F, per cent")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
