"""Read ahead and write behind on threads of their own, in bounded memory, while the caller computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from vos_umec.errors import ConfigError
from vos_umec.io.frames import Frame
from vos_umec.io.source import FrameSource

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(call: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Future[Result]]]:
    """Call a function for each item on a thread of its own, one item ahead of the caller.

    Each item is taken from the iterable just before its call. Yields (item, future of its result), in order.
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
    """All frames of a video in order; the next batch is read while the caller works on this one.

    At most two batches are in memory, whatever the length. Do not use the source elsewhere before the iterator ends
    or is closed.

    Yields:
        (frame index, frame (H, W, 3) uint8).

    Raises:
        ConfigError: `batch` is below 1.
        VideoReadError: A frame cannot be read; raised at the start of its batch.
    """
    if batch < 1:
        raise ConfigError(f"batch is {batch}: expected at least 1 frame")
    batches = (range(start, min(start + batch, len(source))) for start in range(0, len(source), batch))
    for indices, coming in one_ahead(source.read, batches):
        yield from zip(indices, coming.result(), strict=True)


class WriteBehind:
    """Runs calls one after another on a thread of its own; use it in a `with` block.

    The error of a failed call is raised by a later `put`, or at the end of the block. No call runs after a failed
    one.

    Args:
        waiting: Most calls in the queue, >= 1. If it is full, `put` waits, so memory stays bounded.
    """

    def __init__(self, waiting: int = 8) -> None:
        self._waiting = waiting
        self._calls: deque[Future[Any]] = deque()
        self._failed = False
        self._thread = ThreadPoolExecutor(1, "write behind")

    def __enter__(self) -> WriteBehind:
        return self

    def put(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Add a call to the queue."""
        while self._calls and (self._calls[0].done() or len(self._calls) >= self._waiting):
            self._calls.popleft().result()
        self._calls.append(self._thread.submit(self._run, call, *arguments))

    def _run(self, call: Callable[..., Any], *arguments: Any) -> None:
        if self._failed:
            return
        try:
            call(*arguments)
        except BaseException:
            self._failed = True
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            for call in self._calls:
                call.result()
