"""Looks into video files from a process of its own: a decoder that crashes or hangs takes no training down.

``python -m vos_umec.data.probe`` reads one path a line and answers one line of JSON for each.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from logging.handlers import BufferingHandler
from pathlib import Path
from queue import SimpleQueue
from threading import Timer
from typing import Any

import numpy as np

from vos_umec.errors import DataError, VosUmecError
from vos_umec.io.source import open_source

log = logging.getLogger(__name__)

_SECONDS = 60.0  # for one file, and on top of that
_SECONDS_PER_BYTE = 1e-6  # videos are decoded to their end, at a thousand frames a second or so
_READY = "ready\n"
_SHORTEST_SIDE = 16  # pixels; less is a test picture or a placeholder


def describe(path: str | Path) -> dict[str, Any]:
    """Open a video or frame folder and say what is in it.

    Args:
        path: Video file or folder of frames.

    Returns:
        The fields of :class:`~vos_umec.io.frames.SourceFacts` and ``step``, the usual distance of the numbers in
        its frames' names (1 for videos); or ``{"reason": str}`` if it cannot be used.

    Example:
        >>> describe("no/such/file.mp4")
        {'reason': 'there is no such file; check the path'}
    """
    try:
        source = open_source(path)
        if len(source) < 2:
            return {"reason": "it has a single frame, a video needs two"}
        if min(source.size) < _SHORTEST_SIDE:
            return {"reason": f"its frames are {source.size} (H, W), a side needs {_SHORTEST_SIDE} pixels"}
        source.read([0])
    except DataError as error:
        return {"reason": str(error).removeprefix(f"cannot read {path}: ")}
    return {**asdict(source.facts), "step": _usual_step(source.names)}


def describe_all(paths: Sequence[Path], processes: int, seconds: float = _SECONDS) -> Iterator[dict[str, Any]]:
    """Run :func:`describe` on many paths, each within a time limit, in processes that may crash.

    Args:
        paths: Videos and frame folders.
        processes: How many to look into at once.
        seconds: Time limit of one file, to which its size adds; past it, the answer is a ``reason``.

    Yields:
        The answer for each path, in order.

    Raises:
        VosUmecError: The helper process does not start.

    Example:
        >>> [answer.keys() for answer in describe_all([Path("no/such/file.mp4")], processes=1)]
        [dict_keys(['reason'])]
    """
    idle: SimpleQueue[_Helper] = SimpleQueue()
    helpers = [_Helper(seconds) for _ in range(min(processes, len(paths)))]
    for helper in helpers:
        idle.put(helper)

    def ask(path: Path) -> dict[str, Any]:
        helper = idle.get()
        try:
            return helper.ask(path)
        finally:
            idle.put(helper)

    try:
        with ThreadPoolExecutor(len(helpers) or 1) as threads:
            try:
                yield from threads.map(ask, paths)
            finally:  # when interrupted, do not wait for a video that takes its time
                for helper in helpers:
                    helper.kill()
    finally:
        for helper in helpers:
            helper.stop()


class _Helper:
    """A process that runs :func:`_serve`, started on first use and again after it had to be killed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None

    def ask(self, path: Path) -> dict[str, Any]:
        if self._process is None:
            self._process = _start()
        seconds = self._seconds + _SECONDS_PER_BYTE * (path.stat().st_size if path.exists() else 0)
        timer = Timer(seconds, self._process.kill)
        timer.start()
        answer = _exchange(self._process, json.dumps(str(path)))
        late = not timer.is_alive()
        timer.cancel()
        if answer:
            content: dict[str, Any] = json.loads(answer)
            for warning in content.pop("warnings"):
                log.warning("%s", warning)
            return content
        code = self._process.wait()
        self.stop()
        return {"reason": f"no answer in {seconds:.0f} s" if late else f"the decoder crashed (exit code {code})"}

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # reaps it and closes the pipes
            self._process = None


def _start() -> subprocess.Popen[str]:
    # A fresh interpreter: forking would carry over this process's decoder threads and GPU state, and
    # multiprocessing's spawn would run the user's script again.
    process = subprocess.Popen(
        [sys.executable, "-m", "vos_umec.data.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders complain there; the reasons come as answers
        text=True,
        start_new_session=True,  # an interrupt from the keyboard must not look like a crash of the decoder
    )
    if process.stdout is None or process.stdout.readline() != _READY:
        process.kill()
        process.communicate()
        raise VosUmecError(
            f"the process that looks into videos did not start; run '{sys.executable} -m vos_umec.data.probe' "
            "to see why"
        )
    return process


def _exchange(process: subprocess.Popen[str], line: str) -> str:
    """One line there, one line back; empty if the process died."""
    if process.stdin is None or process.stdout is None:
        return ""
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    return process.stdout.readline()


def _usual_step(names: Sequence[str]) -> int:
    """Most frequent distance of successive numbers in frame names; 1 if they are no numbers."""
    if not all(name.isdecimal() for name in names):
        return 1
    steps = np.diff([int(name) for name in names])
    return max(1, int(np.bincount(np.clip(steps, 0, 1000)).argmax()))


def _serve() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a decoder prints is no answer
    print(_READY, end="", file=answers, flush=True)
    said = BufferingHandler(capacity=1000)
    logging.getLogger("vos_umec").addHandler(said)
    for line in sys.stdin:
        answer = describe(json.loads(line))
        warnings = [record.getMessage() for record in said.buffer if record.levelno >= logging.WARNING]
        said.flush()
        print(json.dumps({**answer, "warnings": warnings}), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
