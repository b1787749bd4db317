"""TimeBudget: a training schedule in minutes instead of epochs."""

import logging
import math
from collections.abc import Sequence
from itertools import pairwise
from time import monotonic
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vos_umec.errors import ConfigError

log = logging.getLogger(__name__)


class TimeBudget(Callback):
    """Train for a number of minutes: the learning rate rises, falls to 0 by the clock, and training stops.

    The same recipe then fits fast and slow machines; a slow one takes fewer steps. The module's own learning rates
    are the peaks, its own schedule is ignored. `PseudoMaskRefresh(at=...)` refreshes by this clock.

    Training and refreshes count, validation and tests do not. A resumed run continues its budget. With several
    ranks the clock of rank 0 decides.

    Args:
        minutes: The budget, above 0; None for no budget, so that the module's own schedule holds.
        warmup: Fraction of the budget over which the learning rate rises linearly from 0.
        restarts: Progress, within 0 to 1 and rising, at which the learning rate, by then 0, starts again from the
            warm-up. Use it where the first pseudo masks are made: E has converged, V and D begin.

    Raises:
        ConfigError: If a setting is out of range.

    Example:
        >>> budget = TimeBudget(minutes=30, warmup=0.1, restarts=[0.5])
        >>> [round(budget.factor(progress), 2) for progress in (0.0, 0.05, 0.1, 0.3, 0.499, 0.6, 0.8, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 1.0, 0.5, 0.0]
    """

    def __init__(self, minutes: float | None = None, warmup: float = 0.02, restarts: Sequence[float] = ()) -> None:
        starts = [0.0, *restarts]
        shortest = min(b - a for a, b in pairwise([*starts, 1.0]))
        if (minutes is not None and minutes <= 0) or not 0 <= warmup < shortest:
            raise ConfigError(
                f"minutes is {minutes}, warmup {warmup}, restarts {list(restarts)}; expected minutes above 0, and "
                "restarts that rise within 0 to 1, further apart than the warmup is long"
            )
        self.minutes = minutes
        self.warmup = warmup
        self.starts = starts
        self._spent = 0.0  # seconds, up to the last batch
        self._since = monotonic()

    @property
    def progress(self) -> float:
        """Fraction of the budget that was spent when the last batch began, 0 to 1; 0 without a budget."""
        return min(self._spent / (60 * self.minutes), 1.0) if self.minutes else 0.0

    def factor(self, progress: float) -> float:
        """The learning rate at a progress of 0 to 1, over its peak: a linear warm-up, then a cosine to 0."""
        past, start, end = next(
            (progress - a, a, b) for a, b in pairwise([*self.starts, 1.0]) if progress < b or b == 1
        )
        if past < self.warmup:
            return past / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (past - self.warmup) / (end - start - self.warmup)))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start the clock, so that a refresh before the first batch counts."""
        self._since = monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._read_clock(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start it again."""
        self._since = monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the learning rate."""
        if self.minutes is None:
            return
        self._read_clock(trainer)
        factor = self.factor(self.progress)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when the budget is spent."""
        if self.progress == 1.0 and not trainer.should_stop:
            log.info("the budget of %g minutes is spent after %d steps", self.minutes, trainer.global_step)
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say if the epochs ended before the budget."""
        epochs = trainer.max_epochs or -1
        if (
            self.minutes is None
            or epochs < 0
            or trainer.max_steps >= 0
            or trainer.should_stop
            or trainer.interrupted
        ):
            return
        if self.progress < 1:
            log.warning(
                "training ended after %.2g of the budget's %g minutes, for max_epochs is %d: its learning rate had "
                "not fallen to 0; --trainer.max_epochs=-1 leaves the end to the budget",
                self.minutes * self.progress,
                self.minutes,
                epochs,
            )

    def _read_clock(self, trainer: Trainer) -> None:
        now = monotonic()
        self._spent, self._since = trainer.strategy.broadcast(self._spent + now - self._since), now

    def state_dict(self) -> dict[str, Any]:
        """The seconds spent."""
        return {"spent": self._spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the seconds spent."""
        self._spent = state_dict["spent"]


def find_budget(trainer: Trainer) -> TimeBudget:
    """The Trainer's `TimeBudget`.

    Raises:
        ConfigError: If it has none, or one without minutes.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, TimeBudget) and callback.minutes is not None:
            return callback
    raise ConfigError(
        "PseudoMaskRefresh(at=...) needs a time budget, and there is none; set --budget.minutes, or give the "
        "Trainer the callback vos_umec.TimeBudget(minutes=...)"
    )
