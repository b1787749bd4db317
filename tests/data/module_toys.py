"""A module that records what a data module gives, and what it needs around it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

FrameFolder = Callable[..., Path]
TINY = {"clip_length": 3, "short_side": 20, "crop": 16, "batch_size": 2}


class Recorder(LightningModule):
    """Learns nothing, and keeps its batches."""

    def __init__(self, refresh_in: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.refresh_in = refresh_in
        self.clips: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
        self.batches: list[dict[str, Any]] = []
        self.sequences: list[Any] = []

    def on_train_epoch_start(self) -> None:
        if self.current_epoch in self.refresh_in:
            commit_generation(self.trainer)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        numbers = [tuple(row) for row in batch["frame_indices"].tolist()]
        self.clips.setdefault(self.current_epoch, []).extend(zip(batch["video"], numbers, strict=True))
        self.batches.append(batch)
        return self.weight * batch["frames"].mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.sequences.append(batch)

    def predict_step(self, batch: Any, batch_idx: int) -> str:
        return str(batch.name)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def commit_generation(trainer: Trainer) -> None:
    """Does what a refresh does: each process writes its shard of the videos, one of them does the rest."""
    module = trainer.datamodule
    store, generation, barrier = module.store, module.store.generation + 1, trainer.strategy.barrier
    if trainer.is_global_zero:
        store.begin(generation)
    barrier()
    for video in module.index.entries[trainer.global_rank :: trainer.world_size]:
        store.write(generation, video.id, np.arange(4) * 2, np.full((4, 10, 15), generation, np.uint8))
    barrier()
    if trainer.is_global_zero:
        store.commit(generation, {"clusters": 1})
    barrier()
    store.reload()


def trainer(root: Path, **options: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": root,
    }
    return Trainer(**{**defaults, **options})
