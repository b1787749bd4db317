"""Running a set: finished runs are skipped, interrupted ones are resumed, a failed one leaves the others alone."""

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from plan import Run
from summary import FAILED, RESULT, write_summary, write_text
from vos_umec.errors import VosUmecError

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds to wait for another process to leave; loader workers of a killed training notice it within 5."""


class RunError(VosUmecError):
    """A run that did not end well."""


def run_set(runs: Sequence[Run], device: str) -> int:
    """Train and score every run that is not finished, and write the tables of the set after each.

    Args:
        runs: The runs; those that share a training train it once.
        device: Where to score: "auto", "cpu", "cuda", ...

    Returns:
        How many runs failed; `failed.json` in the folder of each holds the reason.
    """
    broken: dict[Path, str] = {}  # trainings that failed; the other runs that share them are not tried now
    failed = 0
    for number, run in enumerate(runs, start=1):
        name = f"{run.cell}, seed {run.seed} ({number} of {len(runs)})"
        if _is_finished(run):
            log.info("%s: finished before", name)
            continue
        (run.folder / FAILED).unlink(missing_ok=True)
        try:
            if run.training in broken:
                raise RunError(broken[run.training])
            try:
                _train(run, name)
            except RunError as error:
                broken[run.training] = str(error)
                raise
            log.info("%s: scoring", name)
            _write_outcome(run, RESULT, score(run, device))
        except VosUmecError as error:
            failed += 1
            log.warning("%s failed: %s", name, error)
            _write_outcome(run, FAILED, {"reason": str(error)})
        write_summary(run.setting)
    write_summary(runs[0].setting)
    return failed


def score(run: Run, device: str) -> dict[str, Any]:
    """Score the checkpoint of a trained run in a process of its own, whose output is in `log.txt` of its folder.

    Returns:
        What `worker.score_checkpoint` wrote.

    Raises:
        RunError: The process failed.
    """
    request = {"checkpoint": str(run.checkpoint), "segmenter": run.segmenter, "davis": run.setting.davis}
    request |= {"split": run.setting.split, "device": device, "out": str(run.folder)}
    run.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), "score", json.dumps(request)]
    _call("scoring", command, run.folder / "log.txt")
    written = run.folder / "scores.json"
    scored: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    written.unlink()
    return scored


def _train(run: Run, name: str) -> None:
    """Train a run to its end, from its last checkpoint if there is one; do nothing if it is trained."""
    finished = run.training / "finished"
    if finished.is_file():
        return
    with _locked(run.training) as lock:
        write_text(run.training / "config.yaml", yaml.safe_dump(run.fit_config(), sort_keys=False))
        log.info("%s: %s %s", name, "resuming" if run.checkpoint.is_file() else "training", run.training)
        # The child holds the lock too. If this process alone is killed, nobody trains beside the child.
        _call("training", run.fit_command(), run.training / "log.txt", [lock.fileno()])
        if not run.checkpoint.is_file():
            raise RunError(f"training ended before its first epoch did: no {run.checkpoint}; give it more time")
        finished.touch()


def _is_finished(run: Run) -> bool:
    """Whether the run has a result, and one of these settings."""
    try:
        result = json.loads((run.folder / RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return bool(result.get("fingerprint") == run.fingerprint)


def _write_outcome(run: Run, name: str, outcome: Mapping[str, Any]) -> None:
    content = {
        "cell": run.cell,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "setting": run.setting.fingerprint,
        "training": str(run.training.relative_to(run.setting.out)),
        **outcome,
    }
    write_text(run.folder / name, json.dumps(content, indent=2) + "\n")


def _call(what: str, command: Sequence[str], output: Path, kept_open: Sequence[int] = ()) -> None:
    """Run a command and add its output to a file; raise a RunError with its last line if it fails."""
    # OpenMP's threads spin while they wait, which slows down whatever runs beside them on busy cores.
    environment = {"GOMP_SPINCOUNT": "1000", **os.environ}
    with output.open("ab") as file:
        status = subprocess.run(command, stdout=file, stderr=file, env=environment, pass_fds=kept_open).returncode
    if status < 0:
        raise RunError(f"{what} was stopped by {signal.Signals(-status).name}; see {output}")
    if status > 0:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line for line in reversed(lines) if line.strip()), f"{what} ended with status {status}")
        raise RunError(f"{last.removeprefix('vos-umec: error: ').strip()}; see {output}")


@contextmanager
def _locked(folder: Path) -> Iterator[IO[str]]:
    """Keep other processes out of a training; the system releases the lock when its holders are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunError(f"another process trains in {folder}; wait for it, or stop it") from None
                time.sleep(0.1)
        yield lock
