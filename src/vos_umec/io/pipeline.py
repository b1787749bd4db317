"""Read ahead and write behind on threads of their own, in bounded memory, while the caller computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from vos_umec.errors import ConfigError, VideoReadError
from vos_umec.io.frames import Frame
from vos_umec.io.source import FrameSource

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 300.0
"""Seconds without a frame after which a source stalls; far-off frames of a large video may take a minute."""

_LAST_CALL = 30.0  # seconds to wait for the call that is running when the caller leaves


def one_ahead(call: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Future[Result]]]:
    """Call a function for each item on a thread of its own, one item ahead of the caller.

    Each item is taken from the iterable just before its call. Yields (item, future of its result), in order.
    """
    # A thread of an executor would be waited for when Python ends, for ever if its read has stalled.
    calls: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()
    thread = Thread(target=_serve, args=(call, calls), name="read ahead", daemon=True)
    thread.start()
    try:
        last: tuple[Item, Future[Result]] | None = None
        for item in items:
            current: tuple[Item, Future[Result]] = item, Future()
            calls.put((current[1], item))
            if last is not None:
                yield last
            last = current
        if last is not None:
            yield last
    finally:
        calls.put(None)
        thread.join(_LAST_CALL)


def _serve(call: Callable[[Item], Result], calls: SimpleQueue[tuple[Future[Result], Item] | None]) -> None:
    for future, item in iter(calls.get, None):
        try:
            future.set_result(call(item))
        except BaseException as error:  # it is the caller's, who waits for the result
            future.set_exception(error)


def read_ahead(
    source: FrameSource, batch: int = 4, indices: Sequence[int] | None = None, patience: float = PATIENCE
) -> Iterator[tuple[int, Frame]]:
    """Frames of a video in order; the next batch is read while the caller works on this one.

    At most two batches are in memory, whatever the length. Do not use the source elsewhere before the iterator ends
    or is closed.

    Args:
        source: The video.
        batch: Frames read at a time.
        indices: The frames, in any order; None for all.
        patience: Seconds to wait for a batch.

    Yields:
        (frame index, frame (H, W, 3) uint8).

    Raises:
        ConfigError: `batch` is below 1.
        VideoReadError: A frame cannot be read, which is raised at the start of its batch, or does not come in time.
    """
    if batch < 1:
        raise ConfigError(f"batch is {batch}: expected at least 1 frame")
    wanted = range(len(source)) if indices is None else indices
    batches = (wanted[start : start + batch] for start in range(0, len(wanted), batch))
    for some, coming in one_ahead(source.read, batches):
        done, _ = wait([coming], timeout=patience)
        if not done:
            raise VideoReadError(
                source.path, f"frame {some[0]} did not come within {patience:g} seconds: it stalls"
            )
        yield from zip(some, coming.result(), strict=True)


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
