"""Folders that several processes of a training write: who sees the same one, and steps that all take or none."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import torch.distributed as dist

from vos_umec.distributed import gather_objects
from vos_umec.errors import DataError, VosUmecError


@contextmanager
def all_or_none(what: str) -> Iterator[None]:
    """A step that fails on every process if it fails on one, so that no process waits for one that has failed.

    Every process enters the block, and waits at its end for the others.

    Args:
        what: What the block does, for the message: "rank 3 failed to ...".

    Raises:
        VosUmecError: The block raised an error on another process. On the process itself that error is raised.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    reports = gather_objects(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, report in enumerate(reports):
        if report is not None:
            raise VosUmecError(f"rank {rank} failed to {what}: {report}")


def sharing_ranks(folder: Path, patience: float = 5.0) -> list[int]:
    """The ranks that see the same files in a folder as this process: those of its node, or all on a shared disk.

    Every process calls it. Each writes an empty file into the folder, looks for the others' files, and deletes its
    own.

    Args:
        folder: The folder, made if it is missing; each process may name another one.
        patience: Seconds to wait for files that a network disk shows late.

    Returns:
        Ranks in ascending order, the process's own among them.

    Raises:
        VosUmecError: The folder cannot be written, here or by another process.
        DataError: One process sees files of another that does not see its own.

    Example:
        >>> sharing_ranks(Path("masks"))
        [0]
    """
    everyone = gather_objects(uuid4().hex)
    if len(everyone) == 1:
        return [0]
    files = [folder / f".rank_{name}" for name in everyone]
    own = files[dist.get_rank()]
    with all_or_none(f"write into {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        own.touch()
    end = time.monotonic() + patience
    while len(seen := [rank for rank, file in enumerate(files) if file.exists()]) < len(files):
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    all_seen = gather_objects(seen)
    own.unlink()
    if any(all_seen[other] != group for group in all_seen for other in group):
        raise DataError(
            f"processes disagree on who shares {folder}: by rank, each sees files of {all_seen}; expected the same "
            "list from all ranks of a list. Give all ranks one folder on a shared disk, or each node one of its own"
        )
    return seen
