"""Worker processes for untrusted videos: a decoder that crashes or hangs there does not end the training.

A module that offers such work ends with `serve(function)` and is started with `python -m`. It reads one request per
line and writes one answer per line, both as JSON.
"""

import faulthandler
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import BufferingHandler
from queue import SimpleQueue
from threading import Timer
from typing import Any

from vos_umec.errors import VosUmecError
from vos_umec.io.frames import listen_to_progress

log = logging.getLogger(__name__)

_READY = "ready\n"
_KILLED = -9  # by the user, or by a system that is out of memory
_IDLE = 1  # exit code of a process that ended itself because nothing happened
_PATIENCE = 18.0  # seconds without a decoded frame, after which a process ends itself
_MEMORY = 2 * 2**30  # bytes that a process may take; allocations beyond it fail, which ends in an error


def ask_all(
    module: str, requests: Sequence[Any], seconds: Sequence[float], processes: int
) -> Iterator[dict[str, Any]]:
    """Have each request answered within a time limit by worker processes.

    Args:
        module: The module that serves, as `python -m` takes it.
        requests: Values that JSON can hold.
        seconds: Time limit of each request.
        processes: How many processes work at the same time.

    Yields:
        The answer to each request, in order; `{"reason": str}` if a process crashed or took too long, with
        `"temporary": True` if the cause may be a machine that is busy or out of memory.

    Raises:
        VosUmecError: The process does not start.
    """
    idle: SimpleQueue[_Server] = SimpleQueue()
    servers = [_Server(module) for _ in range(min(processes, len(requests)))]
    for server in servers:
        idle.put(server)

    def ask(request: Any, limit: float) -> dict[str, Any]:
        server = idle.get()
        try:
            return server.ask(request, limit)
        finally:
            idle.put(server)

    try:
        with ThreadPoolExecutor(len(servers) or 1) as threads:
            try:
                yield from threads.map(ask, requests, seconds)
            finally:  # after an interrupt, do not wait for a slow video
                for server in servers:
                    server.kill()
    finally:
        for server in servers:
            server.stop()


def serve(function: Callable[[Any], dict[str, Any]]) -> None:
    """Answer each request with `function`, until the input ends.

    Warnings of this package are sent with the answer, and logged by the process that asked.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a decoder prints must not look like an answer
    print(_READY, end="", file=answers, flush=True)
    records = BufferingHandler(capacity=1000)
    logging.getLogger("vos_umec").addHandler(records)
    _limit_memory()
    watchdog = _Watchdog()
    listen_to_progress(watchdog.feed)
    for line in sys.stdin:
        watchdog.start()
        try:
            answer = function(json.loads(line))
        except Exception as error:  # it concerns one request; go on with the others
            answer = {"reason": f"{type(error).__name__}: {error}"}
        faulthandler.cancel_dump_traceback_later()
        warnings = [record.getMessage() for record in records.buffer if record.levelno >= logging.WARNING]
        records.flush()
        print(json.dumps({**answer, "warnings": warnings}), file=answers, flush=True)


class _Watchdog:
    """Ends this process if nothing feeds it for some seconds, wherever it hangs."""

    def __init__(self) -> None:
        self._started = 0.0

    def start(self, seconds: float = 0.0) -> None:
        self._started = time.monotonic()
        faulthandler.dump_traceback_later(_PATIENCE + seconds, exit=True, file=sys.stderr)

    def feed(self, seconds: float) -> None:
        if seconds or time.monotonic() > self._started + 1:  # each start costs a thread
            self.start(seconds)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


class _Server:
    """A process that serves, started on first use and again after it was killed."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Any, seconds: float) -> dict[str, Any]:
        if self._process is None:
            self._process = _start(self._module)
        timer = Timer(seconds, self._process.kill)
        timer.start()
        answer = _exchange(self._process, json.dumps(request))
        late = not timer.is_alive()
        timer.cancel()
        if answer:
            content: dict[str, Any] = json.loads(answer)
            for warning in content.pop("warnings"):
                log.warning("%s", warning)
            return content
        code = self._process.wait()
        self.stop()
        if late:
            return {"reason": f"no answer in {seconds:.0f} s", "temporary": True}
        if code == _IDLE:
            return {"reason": f"no frame was decoded for {_PATIENCE:.0f} s", "temporary": True}
        crashed = {"reason": f"the decoder crashed (exit code {code})"}
        return {**crashed, "temporary": True} if code == _KILLED else crashed

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # collects its exit status and closes the pipes
            self._process = None


def _start(module: str) -> subprocess.Popen[str]:
    # A fresh interpreter: a fork would copy this process's decoder threads and GPU state, and multiprocessing's
    # spawn would run the user's script again.
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders print complaints there; the reasons come as answers
        text=True,
        start_new_session=True,  # Ctrl+C must not look like a crash of the decoder
    )
    if process.stdout is None or process.stdout.readline() != _READY:
        process.kill()
        process.communicate()
        raise VosUmecError(
            f"the process that opens videos did not start; run '{sys.executable} -m {module}' to see why"
        )
    return process


def _exchange(process: subprocess.Popen[str], line: str) -> str:
    """Send one line and read one line; empty if the process died."""
    if process.stdin is None or process.stdout is None:
        return ""
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    return process.stdout.readline()
