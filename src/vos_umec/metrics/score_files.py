"""Scores of mask files on disk, in one process or several. It imports little, because every process imports it."""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vos_umec.errors import ConfigError, DataError, MaskError
from vos_umec.io.masks import Ids, read_mask
from vos_umec.metrics.sequence import SequenceScorer

Item = TypeVar("Item")
Result = TypeVar("Result")

# Starting another process takes about 0.2 seconds, in which this one scores about as many frames.
_WORTH_A_PROCESS = 600


@dataclass(frozen=True)
class MaskFiles:
    """One sequence to score.

    Attributes:
        name: Name of the sequence.
        truths: Ground-truth files in the order of the frames.
        results: Folder with a result of the same file name for each of them except the first and the last.
    """

    name: str
    truths: tuple[Path, ...]
    results: Path


def score_sequence(files: MaskFiles) -> SequenceScorer:
    """Read and score one sequence by the DAVIS rules."""
    scorer = SequenceScorer(files.name)
    last = len(files.truths) - 1
    for i, path in enumerate(files.truths):
        # The first and the last frame are not scored and need no results. The first ground truth names the objects;
        # the last one is not read.
        if i == 0 or i < last:
            target = read_mask(path)
        scorer.update(read_result(files.results / path.name, target) if 0 < i < last else target, target)
    return scorer


def read_result(path: Path, target: Ids) -> Ids:
    """Read a predicted mask (H, W); raise a `MaskError` if its size is not that of the ground truth `target`."""
    result = read_mask(path)
    if result.shape != target.shape:
        found, expected = ("{1} x {0}".format(*mask.shape) for mask in (result, target))
        raise MaskError(
            f"{path} is {found} pixels, its ground truth {expected}: write results at the size of the frames"
        )
    return result


def require_results(results: Path, scored: Mapping[str, Sequence[Path]]) -> None:
    """Raise a `DataError` unless `results/<sequence>` has a file of the name of each scored ground truth."""
    if not results.is_dir():
        raise DataError(f"no folder {results}: expected results as <sequence>/<frame>.png; check the path")
    missing = [name for name in scored if not (results / name).is_dir()]
    if missing:
        raise DataError(
            f"{results} has no results of {len(missing)} of {len(scored)} sequences ({_few(missing)}): "
            "expected one folder per sequence; segment these, or choose the split that was segmented"
        )
    for name, targets in scored.items():
        there = {path.name for path in (results / name).iterdir()}
        missing = [path.name for path in targets if path.name not in there]
        if missing:
            raise DataError(
                f"{results / name} lacks {len(missing)} of the {len(targets)} scored frames ({_few(missing)}): "
                "expected one indexed PNG per frame, with the name of the frame; segment the whole sequence again"
            )


def useful_processes(workers: int, frames: Sequence[int]) -> int:
    """Number of processes that make scoring faster, 1 to `workers`; `frames` counts those of each sequence."""
    if workers < 1:
        raise ConfigError(f"workers is {workers}: expected a number of processes, at least 1")
    return 1 if sum(frames) < _WORTH_A_PROCESS else max(1, min(workers, len(frames)))


def score_in_processes(
    score: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Result, None, None]:
    """Score items in one or more processes.

    This process is one of the workers. It takes items from the end, while the others, which need a moment to start,
    take them from the beginning. The processes are spawned, not forked, because the caller may have threads.

    Args:
        score: A function of one item, at the top level of a module; its errors are raised here.
        items: The items.
        workers: Number of processes, this one included, >= 1.

    Yields:
        The result of each item, in order.

    Raises:
        DataError: A process was killed.
    """
    if workers == 1:
        yield from map(score, items)
        return
    pool = ProcessPoolExecutor(workers - 1, mp_context=multiprocessing.get_context("spawn"))
    try:
        with _without_interrupts():
            futures = [pool.submit(score, item) for item in items]
        yield from _with_own_work(score, items, futures)
    except BrokenProcessPool as error:
        raise DataError(
            "a scoring process was ended from outside, which happens when memory runs out: "
            "free some memory, or score with fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _with_own_work(
    score: Callable[[Item], Result], items: Sequence[Item], futures: Sequence[Future[Result]]
) -> Iterator[Result]:
    """Results in order. While it waits for one, this process scores items that no other has begun, last first."""
    own: dict[int, Result] = {}
    end = len(items)
    for i, future in enumerate(futures):
        while not future.done() and end > i:
            end -= 1
            if futures[end].cancel():
                own[end] = score(items[end])
        yield own.pop(i) if i in own else future.result()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C, which a terminal sends to all processes; this one reports it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
