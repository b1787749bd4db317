"""Runs every benchmark, each in a process of its own, and writes `docs/performance.md` from what they left."""

import os
import subprocess
import sys
from pathlib import Path

import report

HERE = Path(__file__).parent
BENCHMARKS = ("scores", "readout", "inference", "clips", "clustering", "training")


def main() -> None:
    """Run the benchmarks named on the command line, or all; then write the report."""
    names = sys.argv[1:] or BENCHMARKS
    # As the commands set it: threads that spin on busy cores would slow whatever runs beside them.
    environment = {"GOMP_SPINCOUNT": "1000", **os.environ}
    failed = []
    for name in names:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"{name}.py")], env=environment, check=False).returncode:
            failed.append(name)
    report.write()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
