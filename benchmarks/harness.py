"""What every benchmark shares: runs in turn, peak memory, scaling curves with a fitted exponent.

A benchmark is a script with a function `run() -> list[Comparison | Curve | Parts]`, ended by `main(run)`. Started
by itself it prints its lines and leaves them as JSON in `runs/bench`; `run.py` starts them all and writes
`docs/performance.md`.
"""

import ctypes
import gc
import json
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path("runs/bench")


@dataclass
class Comparison:
    """One piece of work done in several ways, in turn, in one process.

    Attributes:
        title: What was done, at which size.
        ours: Name of our way, a key of `seconds`.
        seconds: Every measured time of each way, in the order of the rounds.
        peak_mib: Memory that each way needed beyond what was there before, at its peak.
        checked: What was found equal between the ways in this very run.
        wanted: What was asked for, in words; "" where nothing was.
        notes: Anything else worth a line.
    """

    title: str
    ours: str
    seconds: dict[str, list[float]]
    peak_mib: dict[str, float]
    checked: str = ""
    wanted: str = ""
    notes: str = ""

    def ratios(self, other: str) -> list[float]:
        """How many times longer the other way took, round by round."""
        return [b / a for a, b in zip(self.seconds[self.ours], self.seconds[other], strict=True)]

    def lines(self) -> list[str]:
        """The result as text."""
        out = [self.title + (f" (wanted: {self.wanted})" if self.wanted else "")]
        for name, seconds in self.seconds.items():
            text = f"  {name}: {show_seconds(statistics.median(seconds))}, peak {self.peak_mib[name]:.0f} MiB"
            if name != self.ours:
                ratios = self.ratios(name)
                text += f", {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times our time"
            out.append(text)
        return [*out, *(f"  {text}" for text in (self.checked, self.notes) if text)]


@dataclass
class Curve:
    """Time and memory of one piece of work against its size.

    Attributes:
        title: What was done.
        axis: What grows, with its unit.
        sizes: The sizes.
        seconds: Median time at each.
        peak_mib: Peak extra memory at each.
        expected: The exponent that theory gives the time.
        notes: The reason, where the fitted exponent differs.
    """

    title: str
    axis: str
    sizes: list[float]
    seconds: list[float]
    peak_mib: list[float]
    expected: float = 1.0
    notes: str = ""

    @property
    def exponent(self) -> float:
        """Slope of log time over log size."""
        return slope(self.sizes, self.seconds)

    def lines(self) -> list[str]:
        """The result as text."""
        out = [f"{self.title}: time grows as {self.axis}^{self.exponent:.2f} (expected {self.expected:g})"]
        for size, seconds, peak in zip(self.sizes, self.seconds, self.peak_mib, strict=True):
            out.append(f"  {size:g}: {show_seconds(seconds)}, peak {peak:.0f} MiB")
        return [*out, *([f"  {self.notes}"] if self.notes else [])]


@dataclass
class Parts:
    """Where the time of one piece of work goes.

    Attributes:
        title: What was done.
        seconds: Time of each part.
        notes: Anything else worth a line.
    """

    title: str
    seconds: dict[str, float] = field(default_factory=dict)
    notes: str = ""

    def lines(self) -> list[str]:
        """The result as text."""
        total = sum(self.seconds.values()) or 1.0
        out = [self.title]
        out += [f"  {name}: {show_seconds(s)} ({100 * s / total:.0f} %)" for name, s in self.seconds.items()]
        return [*out, *([f"  {self.notes}"] if self.notes else [])]


Result = Comparison | Curve | Parts


def compare(
    title: str,
    ways: Mapping[str, Callable[[], Any]],
    check: Callable[[dict[str, Any]], str] | None = None,
    rounds: int = 5,
    wanted: str = "",
    notes: str = "",
) -> Comparison:
    """Do the same work in several ways, in turn, and measure each; the first way is ours.

    Every way runs once unmeasured by the clock, for its peak memory and its result, then `rounds` times in turn.

    Args:
        title: What is done, at which size.
        ways: The ways by name; each returns its result.
        check: Given all results, raises if they differ, and says in words what is equal.
        rounds: Measured rounds.
        wanted: What was asked for, in words.
        notes: Anything else worth a line.
    """
    results, peaks = {}, {}
    for name, way in ways.items():
        with peak_memory() as peak:
            results[name] = way()
        peaks[name] = peak[0]
    checked = check(results) if check else ""
    results.clear()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    return Comparison(title, next(iter(ways)), seconds, peaks, checked, wanted, notes)


def scale(
    title: str,
    axis: str,
    sizes: Sequence[float],
    make: Callable[[Any], Callable[[], Any]],
    repeats: int = 3,
    expected: float = 1.0,
    notes: str = "",
) -> Curve:
    """Measure one piece of work at several sizes, going through all sizes in each repeat.

    Args:
        title: What is done.
        axis: What grows.
        sizes: Sizes, growing.
        make: Prepares the work of one size; what it returns is measured.
        repeats: Measured passes over the sizes.
        expected: The exponent that theory gives.
        notes: The reason, where the fitted exponent is known to differ.
    """
    work = [make(size) for size in sizes]
    peaks = []
    for do in work:
        with peak_memory() as peak:
            do()
        peaks.append(peak[0])
    seconds = [[timed(do) for do in work] for _ in range(repeats)]
    medians = [statistics.median(column) for column in zip(*seconds, strict=True)]
    return Curve(title, axis, [float(size) for size in sizes], medians, peaks, expected, notes)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def peak_memory(every: float = 0.002) -> Iterator[list[float]]:
    """The most memory this process held inside the block, beyond what it held before, in MiB (one-item list)."""
    result = [0.0]
    _give_back()
    before, top, done = resident_mib(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(every):
            top[0] = max(top[0], resident_mib())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield result
    finally:
        done.set()
        watcher.join()
        result[0] = max(top[0], resident_mib()) - before


def _give_back() -> None:
    """Hand what was freed back to the system, or the next way would take it up again and seem to need none."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)


def resident_mib() -> float:
    """Memory that this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of log y over log x."""
    return statistics.linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


def show_seconds(seconds: float) -> str:
    """A time in the unit that suits it."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def main(run: Callable[[], list[Result]]) -> None:
    """Run one benchmark, print it, and leave it in `runs/bench` for the report."""
    results = run()
    for result in results:
        print("\n".join(result.lines()))
    save(results, RESULTS / f"{Path(sys.argv[0]).stem}.json")


def save(results: Sequence[Result], path: Path) -> None:
    """Write results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"kind": type(r).__name__, **asdict(r)} for r in results], indent=1))
