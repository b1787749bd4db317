"""DataWait: the fraction of training time that is spent waiting for the next batch."""

import logging
from collections import deque
from time import perf_counter
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)

MUCH = 0.2
"""Fraction of the time above which a warning is due."""


class DataWait(Callback):
    """Log `train/data_wait`: the fraction, 0 to 1, of the last steps' time in which rank 0 waited for a batch.

    A step lasts from the end of one training batch to the end of the next in the same epoch, without validation
    and refreshes. Once 20 steps or more have spent over a fifth waiting, one warning gives the fraction and the
    remedy. The data loader must count its seconds of waiting in `waited`, as every `ClipLoader` does.

    Args:
        steps: Number of steps, the last ones, over which the fraction is taken.
    """

    def __init__(self, steps: int = 50) -> None:
        self.steps = steps
        self._spans: deque[tuple[float, float]] = deque(maxlen=steps)  # (waited, whole) seconds of each step
        self._before: tuple[float, float] | None = None  # at the last batch's end: what the loader had waited, time
        self._warned = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out the time between epochs."""
        self._before = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out validation."""
        self._before = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the fraction, and warn once where it is large."""
        waited = getattr(trainer.train_dataloader, "waited", None)
        if waited is None or not trainer.is_global_zero:
            return
        now = perf_counter()
        if self._before is not None:
            self._spans.append((waited - self._before[0], now - self._before[1]))
        self._before = (waited, now)
        if not self._spans:
            return
        fraction = sum(w for w, _ in self._spans) / sum(t for _, t in self._spans)
        # A tensor of the CPU stays there. Of a number, Lightning would make one on the device, and wait for it.
        pl_module.log("train/data_wait", torch.tensor(fraction), rank_zero_only=True)
        if fraction > MUCH and len(self._spans) >= min(20, self.steps) and not self._warned:
            self._warned = True
            log.warning(
                "%.0f %% of the training time is spent waiting for data: make a training copy of the videos with "
                "`vos-umec prepare VIDEOS --out COPY` and train with --data.root COPY; with a copy already, raise "
                "--data.num_workers",
                100 * fraction,
            )
