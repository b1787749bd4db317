"""Reading ahead and writing behind on threads of their own, while the caller computes; both bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from vos_umec.errors import ConfigError
from vos_umec.io.frames import Frame
from vos_umec.io.source import FrameSource

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(call: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Future[Result]]]:
    """Do a call for each item on a thread of its own, one item ahead of the caller.

    Args:
        call: Done for one item after another, never for two at once.
        items: The items; each is drawn when its call is next.

    Yields:
        (item, what becomes of its call), in order; the next item's call is done meanwhile.

    Example:
        >>> [(item, coming.result()) for item, coming in one_ahead(abs, [-1, 2, -3])]
        [(-1, 1), (2, 2), (-3, 3)]
    """
    with ThreadPoolExecutor(1, "read ahead") as thread:
        last: tuple[Item, Future[Result]] | None = None
        for item in items:
            current = item, thread.submit(call, item)
            if last is not None:
                yield last
            last = current
        if last is not None:
            yield last


def read_ahead(source: FrameSource, batch: int = 4) -> Iterator[tuple[int, Frame]]:
    """All frames of a video in order; while one batch is worked on, the next one is read.

    At most two batches are held, whatever the length. Until it ends or is closed, nobody else may use the source.

    Args:
        source: The video.
        batch: Frames read at a time, 1 or more.

    Yields:
        (frame index, frame (H, W, 3) uint8).

    Raises:
        ConfigError: ``batch`` is below 1.
        VideoReadError: A frame cannot be read; raised where its batch begins.

    Example:
        >>> class Grey:
        ...     def __len__(self): return 5
        ...     def read(self, indices): return [index * 10 for index in indices]
        >>> list(read_ahead(Grey(), batch=2))
        [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]
    """
    if batch < 1:
        raise ConfigError(f"batch is {batch}: expected at least 1 frame")
    batches = (range(start, min(start + batch, len(source))) for start in range(0, len(source), batch))
    for indices, coming in one_ahead(source.read, batches):
        yield from zip(indices, coming.result(), strict=True)


class WriteBehind:
    """Does calls one after another on a thread of its own; use it in a ``with`` block.

    A call that fails raises its error from the next `put`, or at the end of the block; nothing after it is done.

    Args:
        waiting: Calls that may wait, >= 1; when so many do, `put` waits as well, so that memory stays bounded.

    Raises:
        ConfigError: ``waiting`` is below 1.

    Example:
        >>> done = []
        >>> with WriteBehind(waiting=2) as writer:
        ...     for number in range(4):
        ...         writer.put(done.append, number)
        >>> done
        [0, 1, 2, 3]
    """

    def __init__(self, waiting: int = 8) -> None:
        if waiting < 1:
            raise ConfigError(f"waiting is {waiting}: expected at least 1 call")
        self._waiting = waiting
        self._calls: deque[Future[Any]] = deque()
        self._failed = False
        self._thread = ThreadPoolExecutor(1, "write behind")

    def __enter__(self) -> WriteBehind:
        return self

    def put(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Have a call done in its turn."""
        while self._calls and (self._calls[0].done() or len(self._calls) >= self._waiting):
            self._calls.popleft().result()
        self._calls.append(self._thread.submit(self._do, call, *arguments))

    def _do(self, call: Callable[..., Any], *arguments: Any) -> None:
        if self._failed:
            return
        try:
            call(*arguments)
        except BaseException:
            self._failed = True
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            for call in self._calls:
                call.result()
