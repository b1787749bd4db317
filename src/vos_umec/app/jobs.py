"""One thread that computes for all tabs: runs in turn, with progress told and a stop at any frame."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from threading import Event
from typing import Any

from vos_umec.app.follow import Model, follow, seconds_a_frame
from vos_umec.app.session import Session
from vos_umec.errors import ConfigError, VosUmecError

log = logging.getLogger(__name__)


@dataclass
class Run:
    """A run through the frames of a session, as tabs are told of it.

    Attributes:
        state: "waiting" for another tab's run, "running", "stopping", "ended", "stopped" or "failed".
        start: The frame it starts from.
        backward: Towards frame 0.
        total: Frames that it writes.
        done: Frames that it has written.
        frame: The last of them.
        seconds: Per frame, over the last ones; None before the first.
        error: Why it failed.
        warnings: What the user should know of it.
    """

    start: int
    backward: bool
    total: int
    state: str = "waiting"
    done: int = 0
    frame: int | None = None
    seconds: float | None = None
    error: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("waiting", "running", "stopping")


class Jobs:
    """Runs, and measurements of speed, on one thread.

    Args:
        model: The model.
        tell: Called with a session's id and a message for its tabs, from any thread.
    """

    def __init__(self, model: Model, tell: Callable[[str, dict[str, Any]], None]) -> None:
        self._model = model
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, "follow")
        self._runs: dict[str, Run] = {}
        self._stops: dict[str, Event] = {}
        self._speeds: dict[tuple[Any, ...], float] = {}

    def run_of(self, session: Session) -> dict[str, Any] | None:
        """The last run of a session, in plain values."""
        run = self._runs.get(session.id)
        return None if run is None else asdict(run)

    def require_idle(self, session: str) -> None:
        """Raise a ConfigError while a run writes the masks of the session of this id."""
        run = self._runs.get(session)
        if run is not None and run.active:
            raise ConfigError("objects are being followed in this session; stop that first")

    def start(self, session: Session, frame: int, backward: bool) -> None:
        """Begin a run, as soon as those before it have ended."""
        self.require_idle(session.id)
        session.require_frame(frame)
        total = frame if backward else len(session.source) - 1 - frame
        if not total:
            end = "first" if backward else "last"
            raise ConfigError(f"this is the {end} frame: there is none to go on to in this direction")
        if all(o.locked for o in session.objects):
            raise ConfigError("there is no object to follow: add one and draw it, or unlock one")
        run = self._runs[session.id] = Run(frame, backward, total)
        stop = self._stops[session.id] = Event()
        self._told(session, run)
        self._thread.submit(self._follow, session, run, stop)

    def stop(self, session: Session) -> None:
        """End the session's run after the frame that is being computed."""
        run = self._runs.get(session.id)
        if run is not None and run.active:
            run.state = "stopping"
            self._stops[session.id].set()
            self._told(session, run)

    def speed(self, session: Session) -> Future[float]:
        """Seconds a frame; measured once for a size of frames, a short side and a number of objects."""
        followed = max(1, sum(not o.locked for o in session.objects))
        key = (tuple(session.source.size), session.short_side or self._model.short_side, followed)

        def measure() -> float:
            if key not in self._speeds:
                self._speeds[key] = seconds_a_frame(self._model, session)
            return self._speeds[key]

        return self._thread.submit(measure)

    def close(self) -> None:
        """Stop all runs, and wait for the frame that is being computed."""
        for stop in self._stops.values():
            stop.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _follow(self, session: Session, run: Run, stop: Event) -> None:
        times: deque[float] = deque([time.monotonic()], maxlen=9)
        try:
            if not stop.is_set():
                run.state = "running"
                self._told(session, run)
                with closing(follow(self._model, session, run.start, run.backward, run.warnings.append)) as frames:
                    for index in frames:
                        times.append(time.monotonic())
                        run.done, run.frame = run.done + 1, index
                        run.seconds = (times[-1] - times[0]) / (len(times) - 1)
                        self._told(session, run)
                        if stop.is_set():
                            break
            run.state = "ended" if run.done == run.total else "stopped"
        except (VosUmecError, OSError) as error:
            run.state, run.error = "failed", str(error)
        except Exception as error:
            log.exception("following failed")
            run.state, run.error = "failed", f"a fault of vos-umec: {error!r}; the terminal says more"
        self._told(session, run)

    def _told(self, session: Session, run: Run) -> None:
        self._tell(session.id, {"run": asdict(run)})
