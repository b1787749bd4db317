"""DataWait: how much of the time of training goes by waiting for the next batch."""

import logging
from collections import deque
from time import perf_counter
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)

MUCH = 0.2
"""Share of the time above which a warning is due."""


class DataWait(Callback):
    """Logs `train/data_wait`: the share of the last steps' time in which process 0 stood still for lack of a batch.

    A step is the time from the end of one to the end of the next, within an epoch; validation and refreshes do not
    count. Once the share of 20 steps or more is above a fifth, a warning says so, and what helps. The data loader
    has to count its `waited` seconds, as every `ClipLoader` does.

    Args:
        steps: Steps over which the share is taken, at most.

    Example:
        >>> DataWait().steps
        50
    """

    def __init__(self, steps: int = 50) -> None:
        self.steps = steps
        self._spans: deque[tuple[float, float]] = deque(maxlen=steps)  # (waited, whole) seconds of each step
        self._before: tuple[float, float] | None = None  # what the loader had waited, and when
        self._warned = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What lies between epochs is no step."""
        self._before = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nor is validation."""
        self._before = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the share."""
        waited = getattr(trainer.train_dataloader, "waited", None)
        if waited is None or not trainer.is_global_zero:
            return
        now = perf_counter()
        if self._before is not None:
            self._spans.append((waited - self._before[0], now - self._before[1]))
        self._before = (waited, now)
        if not self._spans:
            return
        share = sum(w for w, _ in self._spans) / sum(t for _, t in self._spans)
        pl_module.log("train/data_wait", share, rank_zero_only=True)
        if share > MUCH and len(self._spans) >= min(20, self.steps) and not self._warned:
            self._warned = True
            log.warning(
                "%.0f %% of the time of a step goes by waiting for data: make a training copy of the videos with "
                "`vos-umec prepare VIDEOS --out COPY` and train with --data.root COPY; if it is one already, raise "
                "--data.num_workers",
                100 * share,
            )
