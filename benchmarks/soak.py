"""Faults, processes and time: every part of the soak in turn, and one table at its end (at most half an hour).

    .venv/bin/python benchmarks/soak.py                     # all parts
    .venv/bin/python benchmarks/soak.py --seed 3 kills      # one part, other draws

A part is a module with `run(seed, minutes, folder)` that returns rows. The exit status is 1 if anything is lost.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from soak_row import Row

MINUTES = {"kills": 9, "full_disk": 4, "found_video": 5, "hostile": 2, "long_video": 5, "processes": 4}
"""The parts, as the modules `soak_NAME`, and the minutes that each may take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are named, or all; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(MINUTES)}; all without one")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the minutes of each part")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - MINUTES.keys():
        parser.error(f"no part {', '.join(unknown)}; the parts are {', '.join(MINUTES)}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows, start = [], time.monotonic()
    for name in given.parts or MINUTES:
        print(f"{name}, up to {given.scale * MINUTES[name]:.1f} minutes ...", flush=True)
        with tempfile.TemporaryDirectory(prefix="soak_") as folder:
            rows += run_part(name, given.seed, given.scale * MINUTES[name], Path(folder))
    print(f"\nseed {given.seed}, {(time.monotonic() - start) / 60:.1f} minutes\n\n{table(rows)}")
    return int(any(row.lost for row in rows))


def run_part(name: str, seed: int, minutes: float, folder: Path) -> list[Row]:
    """The rows of one part; a part that fails as a whole is lost."""
    begun = time.monotonic()
    try:
        rows: list[Row] = importlib.import_module(f"soak_{name}").run(seed, minutes, folder)
    except Exception as error:  # the other parts still run
        traceback.print_exc()
        return [Row(name, 0, 0, 1, f"the part itself failed: {type(error).__name__}: {error}")]
    print(f"{name} took {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
    return rows


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table.

    Example:
        >>> print(table([Row("kills", 3, 3, 0, "all well")]))
        | part | injected | survived | lost | figures |
        |---|---|---|---|---|
        | kills | 3 | 3 | 0 | all well |
        | all | 3 | 3 | 0 |  |
    """
    total = Row("all", *(sum(row[i] for row in rows) for i in (1, 2, 3)), "")
    lines = [f"| {' | '.join(str(cell) for cell in row)} |" for row in (*rows, total)]
    return "\n".join(["| part | injected | survived | lost | figures |", "|---|---|---|---|---|", *lines])


if __name__ == "__main__":
    sys.exit(main())
