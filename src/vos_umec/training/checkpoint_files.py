"""Checkpoints on disk: written whole or not at all, and the newest one of the runs of a name."""

import logging
import os
import pickle
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import Strategy

from vos_umec.errors import CheckpointError, first_sentence
from vos_umec.io.atomic import atomic_path
from vos_umec.models.description import KEY

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint beside its place, and renames it when all of it is on the disk.

    Lightning's own writes into the folder for temporary files, which may lie on another disk. Its last step is a
    copy then, and a killed process leaves a part of it under the checkpoint's name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint. Where its place is a URL, Lightning's own way does."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        whole = BytesIO()  # torch's writer reports a full disk as an error of its own, without the reason
        torch.save(checkpoint, whole)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(whole.getbuffer())
            file.flush()
            os.fsync(file.fileno())


def write_atomically(strategy: Strategy) -> None:
    """Have a Trainer's strategy write checkpoints by `AtomicCheckpointIO`, unless it has a way of its own."""
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = AtomicCheckpointIO()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """All that a checkpoint holds, on the CPU; tensors are read from the file when they are used.

    Raises:
        CheckpointError: If it is no checkpoint that training of this package wrote.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise EOFError("it is not of the format that torch writes, or was cut short")
        checkpoint: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        _ = checkpoint[KEY]["module_class"], checkpoint["hyper_parameters"]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint that training wrote ({first_sentence(error)}); a model file of "
            "`vos-umec export` goes to --model.init_from"
        ) from error
    return checkpoint


def finish_epoch(checkpoint: dict[str, Any]) -> None:
    """Have a checkpoint that was written after the last batch of an epoch say that the epoch is over.

    Lightning would resume such a run within the epoch, with no batch left: it would leave out the hooks of the next
    epoch's start, begin it at a wrong batch if it has another number of batches, and write checkpoints that do not
    resume within an epoch.

    Args:
        checkpoint: What Lightning is about to restore; changed in place.
    """
    loops = checkpoint.get("loops", {}).get("fit_loop", {})
    batches, epochs = loops.get("epoch_loop.batch_progress"), loops.get("epoch_progress")
    if (
        not batches
        or not batches["is_last_batch"]
        or batches["current"]["completed"] == batches["current"]["ready"]
    ):
        return
    for counts in (batches["total"], batches["current"]):
        counts["completed"] += 1
    for counts in (epochs["total"], epochs["current"]):
        counts["processed"] += 1
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


def newest_checkpoint(folders: Iterable[Path]) -> Path | None:
    """The checkpoint that was written last of those in some folders; None if there is none.

    A file that is no whole checkpoint, as a copy that was cut short, is passed over with a warning.
    """
    files = [path for folder in folders for path in folder.glob("*.ckpt")]
    for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True):
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            log.warning("%s; taking the one before it", error)
        else:
            return path
    return None
