"""Scores of sequences that lie on disk as mask files, in one process or more. Imports little: so do workers."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vos_umec.errors import DataError, MaskError
from vos_umec.io.masks import read_mask
from vos_umec.metrics.sequence import SequenceScorer

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class MaskFiles:
    """One sequence to score.

    Attributes:
        name: Name of the sequence.
        truths: Ground-truth files in the order of the frames.
        results: Folder with a result of the same file name for each of them, save the first and the last.
    """

    name: str
    truths: tuple[Path, ...]
    results: Path


def score_sequence(files: MaskFiles) -> SequenceScorer:
    """Read and score one sequence.

    Args:
        files: The sequence.

    Returns:
        The scorer, ready to give its rows.

    Raises:
        DataError: The first ground truth shows no object.
        MaskError: A mask cannot be read as object ids, or has another size than its ground truth.

    Example:
        >>> score_sequence(MaskFiles("dog", (), Path("results/dog"))).sequence
        'dog'
    """
    scorer = SequenceScorer(files.name)
    last = len(files.truths) - 1
    for i, path in enumerate(files.truths):
        # The first and the last frame are not scored: there need not be a result, nor a sound one. Of the first
        # the objects are read; the last is not opened.
        if i == 0 or i < last:
            target = read_mask(path)
        scorer.update(read_result(files.results / path.name, target) if 0 < i < last else target, target)
    return scorer


def score_sequences(sequences: Sequence[MaskFiles], workers: int) -> Generator[SequenceScorer, None, None]:
    """Read and score sequences by the DAVIS rules, in several processes where asked.

    Args:
        sequences: The sequences.
        workers: Processes, this one included, >= 1; the scores do not depend on it.

    Returns:
        The scorer of each sequence, in order.

    Raises:
        DataError: As for ``score_sequence``, or a process was ended from outside.
        MaskError: As for ``score_sequence``.

    Example:
        >>> [scorer.sequence for scorer in score_sequences([MaskFiles("dog", (), Path("dog"))], workers=1)]
        ['dog']
    """
    return score_in_processes(score_sequence, sequences, workers)


def score_in_processes(
    score: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Result, None, None]:
    """Score items, in several processes where asked.

    This process is one of the workers: it takes items from the far end while the others, which need a moment to
    start, take them from the near end. The processes are spawned, not forked, since the caller may have threads
    running.

    Args:
        score: A function of one item, at the top level of a module.
        items: What it is called with.
        workers: Processes, this one included, >= 1.

    Yields:
        What it gives for each item, in order.

    Raises:
        DataError: A process was ended from outside; besides what ``score`` raises.

    Example:
        >>> list(score_in_processes(abs, [1, -2], workers=1))
        [1, 2]
    """
    if workers == 1:
        yield from map(score, items)
        return
    pool = ProcessPoolExecutor(workers - 1, mp_context=multiprocessing.get_context("spawn"))
    try:
        with _deaf_children():
            futures = [pool.submit(score, item) for item in items]
        yield from _with_own_work(score, items, futures)
    except BrokenProcessPool as error:
        raise DataError(
            "a process that scored was ended from outside, as happens where memory runs out: "
            "free some, or score with fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Cores that this process may use.

    Returns:
        At least 1.

    Example:
        >>> available_cores() >= 1
        True
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_result(path: Path, target: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Read a result that is to be held against its ground truth.

    Args:
        path: An indexed PNG.
        target: Ground truth, (H, W).

    Returns:
        (H, W) ids.

    Raises:
        MaskError: It cannot be read as object ids, or has another size.

    Example:
        >>> read_result(Path("no/such.png"), np.zeros((4, 6), np.uint8))
        Traceback (most recent call last):
        ...
        vos_umec.errors.MaskError: no mask at no/such.png; check the path
    """
    result = read_mask(path)
    if result.shape != target.shape:
        found, expected = ("{1} x {0}".format(*mask.shape) for mask in (result, target))
        raise MaskError(
            f"{path} is {found} pixels, its ground truth {expected}: write results at the size of the frames"
        )
    return result


def _with_own_work(
    score: Callable[[Item], Result], items: Sequence[Item], futures: Sequence[Future[Result]]
) -> Iterator[Result]:
    """Results in order; while one is waited for, this process does those that no other has begun, last first."""
    own: dict[int, Result] = {}
    end = len(items)
    for i, future in enumerate(futures):
        while not future.done() and end > i:
            end -= 1
            if futures[end].cancel():
                own[end] = score(items[end])
        yield own.pop(i) if i in own else future.result()


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started inside do not hear ^C, which goes to all processes of a terminal: this one tells of it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
