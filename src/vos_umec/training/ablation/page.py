"""The page of results: what is published, then what was measured, each with what was run. Imports no torch."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from vos_umec.errors import DataError
from vos_umec.metrics.results import Scores
from vos_umec.metrics.sequence import FIGURES, Row
from vos_umec.training.ablation.published import BENCHMARKS
from vos_umec.training.ablation.record import read_record, without_paths
from vos_umec.training.ablation.run import FAILED, RESULT
from vos_umec.training.ablation.table import Line, make_lines, markdown, readoutcomes

_HEAD = """# Results

Written by `vos-umec results --out results.md --set "TITLE=FOLDER" --scores "TITLE=FILE.json"`, never by hand: \
FOLDER is what `vos-umec ablate` left, FILE.json a score file of `vos-umec test` or \
`vos-umec evaluate --json`.

## Published

J&F in per cent, on YouTube-VOS the mean over seen and unseen categories, as the papers report it; nothing of it was
measured here.
"""
_MEASURED = """
## Measured here, on small machines

The paper's figures beside these are of ResNet-18, trained on YouTube-VOS and scored on the whole of DAVIS 2017 val:
compare differences between cells, not the figures.
"""


def make_page(sections: Sequence[str]) -> str:
    """The whole page as Markdown.

    Args:
        sections: What `set_section` and `scores_section` gave, in the order of the page.

    Example:
        >>> make_page([]).splitlines()[0]
        '# Results'
    """
    published = []
    for name, scores in BENCHMARKS.items():
        rows = [["method", "trained", "backbone", "J&F"]]
        for each in scores:
            trained = "supervised" if each.supervised else "self-supervised"
            rows.append([each.method, trained, each.backbone, f"{each.score:.1f}"])
        published.append(f"\n### {name}\n\n{_table(rows)}")
    return "".join([_HEAD, *published, _MEASURED, *(f"\n{section}" for section in sections)])


def set_section(title: str, folder: Path) -> str:
    """One set: what was run, then mean and spread of each cell beside the paper's figure.

    The reasons of runs that failed stay in the folder, since they name files of the machine.

    Args:
        title: Heading of the section.
        folder: Where `vos-umec ablate` left it; of several settings in it the one that was run last is shown.

    Raises:
        DataError: If the folder is missing, has no results, or does not tell what they were run with.

    Example:
        >>> set_section("Losses", Path("no/such/folder"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder: expected what `vos-umec ablate --out` left...
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: expected what `vos-umec ablate --out` left; check the path")
    if next(folder.glob(f"*/seed_*/{RESULT}"), None) is None:
        raise DataError(f"{folder} has no results: expected CELL/seed_N/{RESULT}; run `vos-umec ablate` into it")
    record = read_record(folder)
    results = readoutcomes(folder, record.fingerprint)
    if not results:
        raise DataError(
            f"{folder} has results, but none of what was run there last ({record.base}, --davis and the arguments "
            "after -- count): finish that `vos-umec ablate` command, or repeat the one whose results are there"
        )
    lines = make_lines(results)
    facts = {
        "base configuration": f"`{record.base}`",
        "cells": ", ".join(f"`{line.cell}`" for line in lines),
        "further arguments of `vos-umec fit`": f"`{without_paths(record.extra)}`" if record.extra else "none",
        "scored on": f"{len(results[0]['scores']['umec']['sequences'])} sequences of `{record.split}`",
        "seeds": _seeds(lines),
        "minutes of training": f"{mean(each['minutes'] for each in results):.1f}, mean of {len(results)} runs",
    }
    failures = readoutcomes(folder, record.fingerprint, FAILED)
    if failures:
        facts["failed"] = ", ".join(f"`{each['cell']}` with seed {each['seed']}" for each in failures)
    return f"### {title}\n\n{_listed(facts)}\n{markdown(lines)}"


def scores_section(title: str, file: Path) -> str:
    """Scores of masks: a row an object, and the means over all.

    Args:
        title: Heading of the section.
        file: What `vos-umec test` or `vos-umec evaluate --json` wrote by the rules of DAVIS 2017.

    Raises:
        DataError: If the file cannot be read or holds something else.

    Example:
        >>> scores_section("Ours", Path("no/such/file.json"))
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: cannot read no/such/file.json: No such file or directory; check the path
    """
    try:
        scores = Scores(json.loads(file.read_text(encoding="utf-8"))["objects"])
        rows = [[str(row["sequence"]), str(row["object"]), *_per_cent(row)] for row in scores.objects]
        if not rows:
            raise ValueError("no objects")
        rows.append(["**all**", str(len(rows)), *_per_cent(scores.overall)])
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}; check the path") from error
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{file} is no score file: expected the JSON that `vos-umec test` leaves in scores/, or "
            "`vos-umec evaluate --dataset davis17 --json` writes, with the seven figures of each object"
        ) from error
    sequences = len({row[0] for row in rows[:-1]})
    facts = f"{len(rows) - 1} objects of {sequences} sequences, by the rules of DAVIS 2017; per cent."
    return f"### {title}\n\n{facts}\n\n{_table([['sequence', 'object', *FIGURES], *rows])}"


def _seeds(lines: Sequence[Line]) -> str:
    """The seeds of all cells, or of each where some cells lack some."""
    cells: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        cells[", ".join(map(str, line.seeds))].append(f"`{line.cell}`")
    if len(cells) == 1:
        return next(iter(cells))
    return "; ".join(f"{seeds} of {', '.join(names)}" for seeds, names in cells.items())


def _listed(facts: Mapping[str, str]) -> str:
    return "".join(f"* {name}: {fact}\n" for name, fact in facts.items())


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown; the first is the head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def _per_cent(figures: Mapping[str, float] | Row) -> list[str]:
    return [f"{100 * float(figures[name]):z.1f}" for name in FIGURES]
