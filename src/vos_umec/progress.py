"""Signs of life: what goes on, how fast, how long it will take. A bar on a terminal, lines of the log elsewhere."""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from time import monotonic
from typing import TypeVar

log = logging.getLogger(__name__)
Item = TypeVar("Item")

SOON, LATEST = 2.0, 30.0
"""Seconds of silence before a line: at first, and at most. Between them half of the time since the beginning."""
_STALLED = 10.0
"""Seconds without a new item that a line mentions."""


@dataclass(eq=False)
class _Work:
    line: Callable[[], str | None]
    overview: bool = False
    fraction: float = 0.0  # of this work that is done


_works: list[_Work] = []  # the innermost is last
_begun = 0.0  # when the outermost began
_told = 0.0  # when the last line was logged


@contextmanager
def telling(line: Callable[[], str | None], overview: bool = False) -> Iterator[_Work]:
    """Log a line now and then while the block runs, unless a block inside it tells of itself.

    A thread does it, so that one long step is no silence.

    Args:
        line: Gives the line; None for none, where something else shows how the work goes.
        overview: Put the line before those of blocks inside this one.
    """
    global _begun, _told
    if not _works:
        _begun = _told = monotonic()
    work, ended = _Work(line, overview), Event()
    _works.append(work)
    thread = Thread(target=_tell, args=(work, ended), name="signs of life", daemon=True)
    thread.start()
    try:
        yield work
    finally:
        ended.set()
        _works.remove(work)


def _tell(work: _Work, ended: Event) -> None:
    global _told
    while not ended.wait(0.25):
        now = monotonic()
        if _works[-1:] != [work] or now - _told < min(max(SOON, (now - _begun) / 2), LATEST):
            continue
        lines = [each.line() for each in list(_works) if each is work or each.overview]
        if text := "; ".join(line for line in lines if line):
            _told = now
            log.info("%s", text)


def inner_fraction() -> float:
    """How much of the innermost loop is done, 0 to 1; 0 where its end is not known."""
    return _works[-1].fraction if _works else 0.0


@contextmanager
def phase(what: str) -> Iterator[None]:
    """Say what goes on in the block if it takes longer than a moment, and again now and then."""
    start = monotonic()
    with telling(lambda: f"{what} ({duration(monotonic() - start)} so far)"):
        yield


def progress(
    items: Iterable[Item], what: str, total: int | None = None, show: bool = True
) -> Generator[Item, None, None]:
    """Give the items one by one, and show how many are done, how fast, and how much time is left.

    Args:
        items: The items.
        what: What is done with them, such as "segmenting".
        total: How many there are; None for `len(items)`, or if they have none, for an open end.
        show: False to show nothing.

    Example:
        >>> list(progress(range(3), "counting"))
        [0, 1, 2]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not show:
        yield from items
    elif terminal():
        yield from _with_bar(items, what, total)
    else:
        yield from _with_lines(items, what, total)


def terminal() -> bool:
    """Whether there is a place for a bar: a terminal, or a notebook."""
    from rich.console import Console

    console = Console(stderr=True)
    return (console.is_terminal and not console.is_dumb_terminal) or console.is_jupyter


def _with_bar(items: Iterable[Item], what: str, total: int | None) -> Generator[Item, None, None]:
    from rich import get_console
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{rate(task.completed, task.elapsed or 0)}")

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(""), TimeRemainingColumn()
    # Commands keep stdout for results. Where a bar is shown already, as Lightning's, this one goes below it.
    console = get_console() if getattr(get_console(), "_live_stack", None) else Console(stderr=True)
    with telling(lambda: None) as work, Progress(*columns, console=console, transient=True) as bar:
        for done, item in enumerate(bar.track(items, total, description=what)):
            work.fraction = done / total if total else 0.0
            yield item


def _with_lines(items: Iterable[Item], what: str, total: int | None) -> Generator[Item, None, None]:
    start = last = monotonic()
    done, told = 0, False

    def line() -> str:
        nonlocal told
        told, now = True, monotonic()
        text = f"{what}: {done}" if total is None else f"{what}: {done} of {total}"
        if done and done != total:
            text += f", {rate(done, now - start)}"
            text += "" if total is None else f", {duration((total - done) * (now - start) / done)} left"
        return text + (f", none for {duration(now - last)}" if now - last > _STALLED and done != total else "")

    with telling(line) as work:
        for item in items:
            yield item
            done, last = done + 1, monotonic()
            work.fraction = done / total if total else 0.0
    if told and not any(work.overview for work in _works):  # which goes on to tell
        log.info("%s: %d in %s", what, done, duration(monotonic() - start))


def rate(done: float, seconds: float) -> str:
    """How fast.

    Example:
        >>> rate(30, 10), rate(1, 10), rate(0, 10)
        ('3 a second', '10 s each', '')
    """
    if not done or not seconds:
        return ""
    return f"{done / seconds:.3g} a second" if done >= seconds else f"{duration(seconds / done)} each"


def duration(seconds: float) -> str:
    """A time for people.

    Example:
        >>> duration(1.26), duration(48.7), duration(150), duration(9000)
        ('1.3 s', '49 s', '2.5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
