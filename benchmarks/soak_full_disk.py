"""Full disks: training and five other commands run out of space, end in one line, and go on when there is some.

The disk is a tmpfs of a drawn size. Where mounting is not permitted, a limit of the size of each file stands for it
(RLIMIT_FSIZE): the system then fails the same writes, with another reason.
"""

import functools
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from soak_kills import commands, fit_words, last_weights, results, resumable
from soak_row import Row
from soak_runs import Done, broken_files, make_data, run_command, same_weights

ROUNDS = 4


def run(seed: int, minutes: float, folder: Path) -> list[Row]:
    """Fill the disk of a training and of each command a few times.

    Args:
        seed: Seed of the sizes.
        minutes: Time for it all; with less than about four there are fewer rounds.
        folder: An empty folder to work in.
    """
    end, rng = time.monotonic() + 60 * minutes, np.random.default_rng(seed)
    data = make_data(folder / "data", seed)
    rows = [fill_training(rng, end, folder / "training", data)]
    for name, (words, pattern) in commands(data).items():
        rows.append(fill_command(rng, end, folder / name, words, pattern))
    return rows


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[tuple[str, Callable[[], None] | None, Callable[[], None]]]:
    """A folder with room for `size` bytes: what it is, what a process must call first, what gives it more room."""
    place.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={max(size // 1024, 8)}k", "tmpfs"]
    mounted = subprocess.run(["mount", *options, str(place)], capture_output=True, check=False).returncode == 0
    if not mounted:
        yield "RLIMIT_FSIZE", functools.partial(limit_files, size), lambda: None
        return
    if size < 8192:  # the disk has whole pages
        with suppress(OSError), (place / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
    more = ["mount", "-o", "remount,size=512m", str(place)]
    try:
        yield "tmpfs", None, lambda: subprocess.run(more, check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def limit_files(size: int) -> None:
    """Fail each write beyond this size of a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def taken(place: Path) -> tuple[int, int]:
    """Bytes that the files of a folder take, all together and the largest."""
    sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    return sum(sizes), max(sizes)


def told(done: Done) -> bool:
    """Whether a command ended by one line that says what is wrong with the disk."""
    return done.code == 1 and any(word in done.one_line for word in ("space", "too large", "cannot be written"))


def fill_training(rng: np.random.Generator, end: float, folder: Path, data: Path) -> Row:
    """A training that cannot write its next file keeps its last good state, and goes on from it."""
    words, whole = fit_words(data, epochs=3), folder / "whole"
    whole.mkdir(parents=True)
    if (done := run_command(words, whole)).code != 0:
        raise RuntimeError(f"the training itself fails: {done.output[-500:]}")
    total, largest = taken(whole)
    faults = lost = 0
    kinds = set()
    for number in range(ROUNDS):
        if number and time.monotonic() > end:
            break
        size = int(rng.uniform(0.02, 2.2) * largest)  # while a checkpoint replaces another, there are two
        with small_disk(folder / f"full_{number}", size) as (kind, prepare, enlarge):
            kinds.add(kind)
            place = folder / f"full_{number}"
            done = run_command(words, place, prepare=prepare)
            if done.code == 0:  # all fitted in
                continue
            faults += 1
            broken = broken_files(place)
            enlarge()
            resume = ["--ckpt_path=last"] * any(place.rglob("*.ckpt"))
            again = run_command([*words, *resume], place)
            same = again.code == 0 and same_weights(last_weights(whole), last_weights(place))
            if not told(done) or broken or not same:
                lost += 1
                print(
                    f"training in {size} bytes: {done.output[-400:]}, broken {broken}, then {again.output[-400:]}"
                )
    return Row(
        "full disk: training",
        faults,
        faults - lost,
        lost,
        f"{', '.join(kinds)}; {total / 2**20:.1f} MiB when whole",
    )


def fill_command(rng: np.random.Generator, end: float, folder: Path, words: list[str], pattern: str) -> Row:
    """A command that cannot write leaves whole files only, and does it all when there is room."""
    whole, name = folder / "whole", words[0]
    whole.mkdir(parents=True)
    if (done := run_command(words, whole)).code != 0:
        raise RuntimeError(f"{name} itself fails: {done.output[-500:]}")
    expected, (total, largest) = results(whole, pattern), taken(whole)
    faults = lost = 0
    kinds = set()
    for number in range(ROUNDS):
        if number and time.monotonic() > end:
            break
        place = folder / f"full_{number}"
        size = int(rng.uniform(0.1, 0.9) * min(total, largest * 4))
        with small_disk(place, size) as (kind, prepare, enlarge):
            kinds.add(kind)
            done = run_command(words, place, prepare=prepare)
            if done.code == 0:
                continue
            faults += 1
            left, broken = results(place, pattern), broken_files(place)
            half = [key for key, value in left.items() if expected.get(key) != value]
            enlarge()
            again = run_command(resumable(words), place)
            good = again.code == 0 and results(place, pattern) == expected
            if not told(done) or broken or half or not good:
                lost += 1
                print(f"{name} in {size} bytes: {done.output[-400:]}, {broken + half}, then {again.output[-400:]}")
    return Row(
        f"full disk: {name}", faults, faults - lost, lost, f"{', '.join(kinds)}; {total / 1024:.0f} KiB when whole"
    )
