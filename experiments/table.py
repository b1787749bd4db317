"""Write the page of results: what is published, then what was measured here. Imports no torch.

python experiments/table.py                            # experiments/measured/page.yaml -> docs/results.md
python experiments/table.py mine.yaml --out mine.md    # a page of your own

The YAML file has a text `about` the page and the list `sections`. A section has a `title`, a text `about` it, and a
`source`: a folder of `ablate.py`, or a score file of `vos-umec test` or `vos-umec evaluate --json`. A relative path
starts in the folder of the YAML file.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from statistics import mean
from typing import Any

import yaml

from summary import FAILED, PUBLISHED, RECORD, Line, make_lines, markdown, markdown_table, read_outcomes, write_text
from vos_umec.errors import DataError, VosUmecError
from vos_umec.metrics.results import Scores
from vos_umec.metrics.sequence import FIGURES, Row

HERE = Path(__file__).parent
_HEAD = """# Results

Written by `python experiments/table.py`, never by hand.
"""
_PUBLISHED = """## Published

J&F in per cent, as the papers report it; on YouTube-VOS the mean over seen and unseen categories. Nothing of it was
measured here.
"""
_MEASURED = """
## Measured here, on small machines

The paper's figures in these tables are of ResNet-18, trained on YouTube-VOS and scored on all of DAVIS 2017 val.
Compare the differences between cells, not the figures. Frames a second are those of segmenting alone, without
reading and writing, on the machine of the set; the paper's are of its own machine.
"""


def make_page(path: Path) -> str:
    """The whole page as Markdown.

    Args:
        path: The YAML file.

    Raises:
        DataError: The file, or what it names, is missing or is something else.
    """
    try:
        page = yaml.safe_load(path.read_text(encoding="utf-8"))
        intro = page.get("about", "")
        sections = [
            (each["title"], each.get("about", ""), path.parent / each["source"]) for each in page["sections"]
        ]
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"cannot read {path} ({reason}): expected sections, each with a title and a source"
        ) from error
    parts = [_HEAD, _paragraph(intro), _PUBLISHED]
    for benchmark, rows in PUBLISHED["benchmarks"].items():
        table = [["method", "trained", "backbone", "J&F"]]
        table += [[method, trained, backbone, f"{score:.1f}"] for method, trained, backbone, score in rows]
        parts.append(f"\n### {benchmark}\n\n{markdown_table(table)}")
        if note := PUBLISHED["notes"].get(benchmark):
            parts.append(f"\n{note}")
    parts.append(_MEASURED)
    for title, about, source in sections:
        body = set_section(source) if source.is_dir() else scores_section(source)
        parts.append(f"\n### {title}\n{_paragraph(about)}{body}")
    return "".join(parts)


def set_section(folder: Path) -> str:
    """One set: what was run, then mean and spread of each cell beside the paper's figure.

    The reasons of failed runs are left out, since they name files of the machine.

    Args:
        folder: What `ablate.py` wrote; of several settings in it, the one that was run last is shown.

    Raises:
        DataError: The folder does not say what was run in it, or has no result of that.
    """
    again = "run the same ablate.py command again, which ends at once where all runs are finished"
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        setting, base, extra, split = (record[name] for name in ("fingerprint", "base", "extra", "split"))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder} has no {RECORD} that says what was run in it ({error}); {again}") from error
    results = read_outcomes(folder, setting)
    if not results:
        raise DataError(f"{folder} has no result of what was run in it last (base {base}); {again}")
    lines = make_lines(results)
    facts = {
        "base configuration": f"`{base}`",
        "cells": ", ".join(f"`{line.cell}`" for line in lines),
        "further arguments of `vos-umec fit`": f"`{without_paths(extra)}`" if extra else "none",
        "scored on": f"{len(results[0]['scores']['umec']['sequences'])} sequences of `{split}`",
        "seeds": _seeds(lines),
        "minutes of training": f"{mean(each['minutes'] for each in results):.1f}, mean of {len(results)} runs",
    }
    if failures := read_outcomes(folder, setting, FAILED):
        facts["failed"] = ", ".join(f"`{each['cell']}` with seed {each['seed']}" for each in failures)
    return "".join(f"* {name}: {fact}\n" for name, fact in facts.items()) + f"\n{markdown(lines)}"


def scores_section(file: Path) -> str:
    """Scores of one model: a row for each object, and the means over all.

    Args:
        file: What `vos-umec test` or `vos-umec evaluate --json` wrote by the rules of DAVIS 2017.

    Raises:
        DataError: The file is missing or holds something else.
    """
    try:
        scores = Scores(json.loads(file.read_text(encoding="utf-8"))["objects"])
        rows = [[str(row["sequence"]), str(row["object"]), *_per_cent(row)] for row in scores.objects]
        sequences = len({row[0] for row in rows})
        if not rows:
            raise ValueError("no objects")
        rows.append(["**all**", str(len(rows)), *_per_cent(scores.overall)])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{file} is neither a folder of ablate.py nor a score file ({error}): expected the JSON that "
            "`vos-umec test` writes into scores/, or `vos-umec evaluate --dataset davis17 --json`"
        ) from error
    facts = f"{len(rows) - 1} objects of {sequences} sequences, by the rules of DAVIS 2017; per cent."
    return f"{facts}\n\n{markdown_table([['sequence', 'object', *FIGURES], *rows])}"


def without_paths(arguments: Sequence[str]) -> str:
    """Arguments of a command as one line, each path replaced by the name of its option in upper case.

    What has a slash or starts with `~` counts as a path, and so does the value of an option that ends with "root".

    Example:
        >>> without_paths(["--data.root=/disk/videos", "--budget.minutes=10", "--config", "other/base.yaml"])
        '--data.root=ROOT --budget.minutes=10 --config CONFIG'
    """
    words, name = [], "path"
    for word in arguments:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        name = option.lstrip("-").rpartition(".")[2] or name
        if name.endswith("root") or "/" in value or value.startswith("~"):
            value = name.upper() if value else ""
        words.append(option + equals + (quote(value) if value else ""))
    return " ".join(words)


def _paragraph(text: str) -> str:
    return f"\n{text.strip()}\n\n" if text else "\n"


def _seeds(lines: Sequence[Line]) -> str:
    """The seeds of all cells, or of each where they differ."""
    cells: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        cells[", ".join(map(str, line.seeds))].append(f"`{line.cell}`")
    if len(cells) == 1:
        return next(iter(cells))
    return "; ".join(f"{seeds} of {', '.join(names)}" for seeds, names in cells.items())


def _per_cent(figures: Mapping[str, Any] | Row) -> list[str]:
    return [f"{100 * float(figures[name]):z.1f}" for name in FIGURES]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, whole or not at all."""
    parser = argparse.ArgumentParser(description="Write the page of results, published and measured.")
    parser.add_argument("page", type=Path, nargs="?", help="YAML file (default: experiments/measured/page.yaml)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: docs/results.md)")
    parser.set_defaults(page=HERE / "measured" / "page.yaml", out=HERE.parent / "docs" / "results.md")
    args = parser.parse_args(argv)
    write_text(args.out, make_page(args.page))
    print(f"{args.out} is written")


if __name__ == "__main__":
    try:
        main()
    except (VosUmecError, OSError) as error:
        sys.exit(f"error: {error}")
