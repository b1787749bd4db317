"""The table of a set: a line a cell, mean and spread over its seeds, beside what the paper reports."""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vos_umec.training.ablation.published import PUBLISHED
from vos_umec.training.ablation.run import RESULT

Result = Mapping[str, Any]

METHODS = {"umec": "whole model", "label_propagation": "label propagation"}
FIGURES = ("J&F", "J", "F")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation in per cent; the latter None for one seed."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, fractions: Sequence[float]) -> "Spread":
        """Of one figure over the seeds, as fractions.

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
    """One cell.

    Attributes:
        cell: Its name.
        seeds: Seeds that are finished.
        figures: By (method, figure).
        sequences: J&F of the whole model by sequence.
        minutes: Of training, mean over the seeds.
        paper: What the paper reports, in per cent, where it does.
        failures: Reason by seed.
    """

    cell: str
    seeds: list[int]
    figures: dict[tuple[str, str], Spread]
    sequences: dict[str, Spread]
    minutes: float | None
    paper: float | None
    failures: dict[int, str]


def readoutcomes(folder: Path, setting: str, name: str = RESULT) -> list[Result]:
    """The results in the folder of a set that are of its setting, other commands' as well; by cell and seed.

    Args:
        folder: Folder of the set.
        setting: Fingerprint of the setting; results of another base or other arguments are not comparable and
            left out.
        name: The file; `FAILED` for the runs that failed.
    """
    files = folder.glob(f"*/seed_*/{name}")
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    fitting = [result for result in results if result["setting"] == setting]
    return sorted(fitting, key=lambda result: (natural(result["cell"]), result["seed"]))


def make_lines(results: Sequence[Result], failures: Sequence[Result] = ()) -> list[Line]:
    """One line a cell, in the natural order of their names.

    Args:
        results: What `readoutcomes` gave.
        failures: What it gave of the runs that failed.
    """
    by_cell: dict[str, tuple[list[Result], list[Result]]] = defaultdict(lambda: ([], []))
    for kind, outcomes in enumerate((results, failures)):
        for outcome in outcomes:
            by_cell[outcome["cell"]][kind].append(outcome)
    return [_line(cell, *by_cell[cell]) for cell in sorted(by_cell, key=natural)]


def markdown(lines: Sequence[Line]) -> str:
    """The table as Markdown; a failed run is a line of its own.

    Args:
        lines: What `make_lines` gave.
    """
    columns = [f"{title}, {figure}" for title in METHODS.values() for figure in FIGURES]
    rows = [["cell", "seeds", *columns, "minutes", "paper's J&F"], ["---"] * (len(columns) + 4)]
    for line in lines:
        if line.seeds:
            figures = [str(line.figures[method, figure]) for method in METHODS for figure in FIGURES]
            minutes, paper = f"{line.minutes:.1f}", "" if line.paper is None else f"{line.paper:.1f}"
            rows.append([line.cell, str(len(line.seeds)), *figures, minutes, paper])
        for seed, why in sorted(line.failures.items()):
            told = why.replace("|", "/").replace("\n", " ")
            rows.append([f"{line.cell}, seed {seed}", f"failed: {told}", *[""] * (len(columns) + 2)])
    head = "Per cent; mean ± sample standard deviation over the seeds, where there are several.\n\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def comma_separated(lines: Sequence[Line]) -> str:
    """The same with J&F by sequence, numbers in full.

    Args:
        lines: What `make_lines` gave.
    """
    sequences = sorted({name for line in lines for name in line.sequences})
    spreads: list[dict[str, Spread]] = []
    for line in lines:
        named = {f"{method} {figure}": spread for (method, figure), spread in line.figures.items()}
        spreads.append({**named, **{f"umec J&F {name}": each for name, each in line.sequences.items()}})
    columns = [f"{method} {figure}" for method in METHODS for figure in FIGURES]
    columns += [f"umec J&F {name}" for name in sequences]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    pairs = [title for column in columns for title in (column, f"{column} deviation")]
    writer.writerow(["cell", "seeds", "minutes", "paper J&F", *pairs, "failed"])
    for line, spread in zip(lines, spreads, strict=True):
        values = [_pair(spread.get(column)) for column in columns]
        failed = "; ".join(f"seed {seed}: {why}" for seed, why in sorted(line.failures.items()))
        numbers = [value for pair in values for value in pair]
        writer.writerow([line.cell, len(line.seeds), line.minutes, line.paper, *numbers, failed])
    return text.getvalue()


def natural(name: str) -> list[tuple[bool, float, str]]:
    """A key that sorts names with numbers in them as people do.

    Example:
        >>> sorted(["4d_every_10", "4d_every_5", "4a_all", "position_0.25", "position_0"], key=natural)
        ['4a_all', '4d_every_5', '4d_every_10', 'position_0', 'position_0.25']
    """
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(bool(i % 2), float(part) if i % 2 else 0.0, part) for i, part in enumerate(parts)]


def _line(cell: str, results: Sequence[Result], failures: Sequence[Result]) -> Line:
    def spread(method: str, *path: str) -> Spread:
        found = [result["scores"][method] for result in results]
        for name in path:
            found = [each[name] for each in found]
        return Spread.of(found)

    methods = METHODS if results else ()
    sequences = results[0]["scores"]["umec"]["sequences"] if results else ()
    return Line(
        cell,
        [result["seed"] for result in results],
        {(method, figure): spread(method, figure) for method in methods for figure in FIGURES},
        {name: spread("umec", "sequences", name) for name in sequences},
        mean(result["minutes"] for result in results) if results else None,
        PUBLISHED.get(cell),
        {failure["seed"]: failure["reason"] for failure in failures},
    )


def _pair(spread: Spread | None) -> tuple[float | None, float | None]:
    return (None, None) if spread is None else (spread.mean, spread.deviation)
