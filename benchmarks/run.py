"""Runs every benchmark, each in a process of its own, and writes `docs/performance.md` from what they left."""

import subprocess
import sys
from pathlib import Path

import report

HERE = Path(__file__).parent
NO_BENCHMARKS = ("harness", "replay", "report", "run")


def main() -> None:
    """Run the benchmarks named on the command line, or all; then write the report."""
    names = sys.argv[1:] or sorted(p.stem for p in HERE.glob("*.py") if p.stem not in NO_BENCHMARKS)
    failed = []
    for name in names:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode:
            failed.append(name)
    report.write()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
