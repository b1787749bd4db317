"""Scores of sequences that lie on disk as mask files, in one process or more. Imports little: so do workers."""

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vos_umec.errors import DataError, MaskError
from vos_umec.io.masks import read_mask
from vos_umec.metrics.sequence import SequenceScorer


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
        scorer.update(_read_result(files.results / path.name, target) if 0 < i < last else target, target)
    return scorer


def score_sequences(sequences: Sequence[MaskFiles], workers: int) -> Generator[SequenceScorer, None, None]:
    """Read and score sequences, in several processes where asked.

    This process is one of the workers: it takes sequences from the far end while the others, which need a
    moment to start, take them from the near end. The processes are spawned, not forked, since the caller may have
    threads running.

    Args:
        sequences: The sequences.
        workers: Processes, this one included, >= 1; the scores do not depend on it.

    Yields:
        The scorer of each sequence, in order.

    Raises:
        DataError: As for ``score_sequence``, or a process was ended from outside.
        MaskError: As for ``score_sequence``.

    Example:
        >>> [scorer.sequence for scorer in score_sequences([MaskFiles("dog", (), Path("dog"))], workers=1)]
        ['dog']
    """
    if workers == 1:
        yield from map(score_sequence, sequences)
        return
    pool = ProcessPoolExecutor(workers - 1, mp_context=multiprocessing.get_context("spawn"))
    try:
        with _deaf_children():
            futures = [pool.submit(score_sequence, files) for files in sequences]
        yield from _with_own_work(sequences, futures)
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


def _with_own_work(
    sequences: Sequence[MaskFiles], futures: Sequence[Future[SequenceScorer]]
) -> Iterator[SequenceScorer]:
    """Results in order; while one is waited for, this process does those that no other has begun, last first."""
    own: dict[int, SequenceScorer] = {}
    end = len(sequences)
    for i, future in enumerate(futures):
        while not future.done() and end > i:
            end -= 1
            if futures[end].cancel():
                own[end] = score_sequence(sequences[end])
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


def _read_result(path: Path, target: NDArray[np.uint8]) -> NDArray[np.uint8]:
    result = read_mask(path)
    if result.shape != target.shape:
        found, expected = ("{1} x {0}".format(*mask.shape) for mask in (result, target))
        raise MaskError(
            f"{path} is {found} pixels, its ground truth {expected}: write results at the size of the frames"
        )
    return result
