"""Runs every benchmark and prints a line for each."""

import readout
import scores


def main() -> None:
    """Run them all, the quickest first."""
    for benchmark in (scores, readout):
        print(benchmark.run())


if __name__ == "__main__":
    main()
