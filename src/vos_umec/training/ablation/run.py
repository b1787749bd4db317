"""Running a set: what is finished is skipped, what was interrupted goes on, what fails leaves the others alone."""

import fcntl
import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from vos_umec.errors import RunError, VosUmecError
from vos_umec.io.atomic import atomic_path
from vos_umec.training.ablation.plan import Run

log = logging.getLogger(__name__)

RESULT, FAILED = "result.json", "failed.json"
PATIENCE = 20.0
"""Seconds to wait for another process to leave: loader workers of a killed training look for it every 5."""


def run_set(runs: Sequence[Run], device: str, report: Callable[[], None]) -> int:
    """Train and score every run that is not finished.

    Args:
        runs: The runs; those that share a training train it once.
        device: Where to score: "auto", "cpu", "cuda", ...
        report: Called when a run has finished or failed, and at the end.

    Returns:
        How many runs failed; each has the reason in `failed.json` in its folder.
    """
    broken: dict[Path, str] = {}  # trainings that failed: no other run tries them again now
    failed = 0
    for number, run in enumerate(runs, start=1):
        name = f"{run.cell}, seed {run.seed} ({number} of {len(runs)})"
        if read_result(run) is not None:
            log.info("%s: finished before", name)
            continue
        (run.folder / FAILED).unlink(missing_ok=True)
        try:
            if run.training in broken:
                raise RunError(broken[run.training])
            try:
                train(run, name)
            except RunError as error:
                broken[run.training] = str(error)
                raise
            log.info("%s: scoring", name)
            _write_outcome(run, RESULT, score(run, device))
        except VosUmecError as error:
            failed += 1
            log.warning("%s failed: %s", name, error)
            _write_outcome(run, FAILED, {"reason": str(error)})
        report()
    report()
    return failed


def train(run: Run, name: str) -> None:
    """Bring a run's training to its end, from its last checkpoint if there is one; nothing if it is there.

    Args:
        run: The run. The output of its training is appended to `log.txt` in the training's folder.
        name: What the log calls it.

    Raises:
        RunError: If the training fails, or another process is at it.
    """
    finished = run.training / "finished"
    if finished.is_file():
        return
    with _locked(run.training) as lock:
        _write(run.training / "config.yaml", yaml.safe_dump(run.fit_config(), sort_keys=False))
        goes_on = run.checkpoint.is_file()
        log.info("%s: %s in %s", name, "training goes on" if goes_on else "training", run.training)
        output = run.training / "log.txt"
        with output.open("ab") as file:
            # The child holds the lock too: should this process be killed alone, nobody trains beside the child.
            done = subprocess.run(run.fit_command(), stdout=file, stderr=file, pass_fds=[lock.fileno()])
        _require_success("training", done.returncode, output)
        if not run.checkpoint.is_file():
            raise RunError(f"training ended before its first epoch did: no {run.checkpoint}; give it more time")
        finished.touch()


def score(run: Run, device: str) -> dict[str, Any]:
    """Score a run's checkpoint in a process of its own.

    Args:
        run: A run that is trained. The output goes to `log.txt` in its folder, a picture to `results.png`.
        device: Where to compute.

    Returns:
        See `score_checkpoint`.

    Raises:
        RunError: If that fails.
    """
    answer, output = run.folder / "scores.json", run.folder / "log.txt"
    setting = run.setting
    request = [str(run.checkpoint), run.segmenter, setting.davis, setting.split, device, str(answer)]
    run.folder.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as file:
        command = [sys.executable, "-m", "vos_umec.cli.ablation_score", json.dumps(request)]
        done = subprocess.run(command, stdout=file, stderr=file)
    _require_success("scoring", done.returncode, output)
    scored: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    answer.unlink()
    return scored


def read_result(run: Run) -> dict[str, Any] | None:
    """A run's result; None if there is none, or one of other settings.

    Args:
        run: The run.
    """
    try:
        result: dict[str, Any] = json.loads((run.folder / RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return result if result.get("fingerprint") == run.fingerprint else None


def _write_outcome(run: Run, name: str, outcome: dict[str, Any]) -> None:
    content = {
        "cell": run.cell,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "setting": run.setting.fingerprint,
        "training": str(run.training.relative_to(run.setting.out)),
        **outcome,
    }
    _write(run.folder / name, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _locked(folder: Path) -> Iterator[IO[str]]:
    """Keep every other process out of a training; the system lifts the lock when its holders are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        deadline = time.monotonic() + PATIENCE
        while not _lock(lock):
            if time.monotonic() > deadline:
                raise RunError(f"another process is at {folder}; wait for it, or stop it")
            time.sleep(0.1)
        yield lock


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _require_success(what: str, status: int, output: Path) -> None:
    """Raise a RunError for a process that failed: its own error in one line, else the last line it wrote."""
    if status == 0:
        return
    if status < 0:
        raise RunError(f"{what} was stopped by {signal.Signals(-status).name}; see {output}")
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), f"{what} ended with status {status}")
    raise RunError(f"{last.removeprefix('vos-umec: error: ').strip()}; see {output}")
