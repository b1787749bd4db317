"""TimeBudget: a schedule in minutes rather than epochs."""

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

    For machines on which epochs mean little: a recipe in minutes gives on a slower one what it can in that time.
    `PseudoMaskRefresh(at=...)` clusters at shares of the same budget. The module's own schedule is overruled;
    its learning rates are the peaks. Minutes of a run that is resumed count on; with several processes the first
    one's clock rules, and a checkpoint knows the time of its last batch's start. Only training counts, refreshes
    included, not validation or tests.

    Args:
        minutes: The budget, above 0; None for no budget, the module's own schedule.
        rise: Share of it in which the learning rate rises from 0, in 0 to 1.
        restarts: Shares at which the rate, by then back at 0, rises anew: where E shall come to rest before V and D
            begin, that is where the first pseudo masks are made.

    Raises:
        ConfigError: If a setting is out of range.

    Example:
        >>> budget = TimeBudget(minutes=30, rise=0.1, restarts=[0.5])
        >>> [round(budget.factor(progress), 2) for progress in (0.0, 0.05, 0.1, 0.3, 0.499, 0.6, 0.8, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 1.0, 0.5, 0.0]
    """

    def __init__(self, minutes: float | None = None, rise: float = 0.02, restarts: Sequence[float] = ()) -> None:
        starts = [0.0, *restarts]
        shortest = min(b - a for a, b in pairwise([*starts, 1.0]))
        if (minutes is not None and minutes <= 0) or not 0 <= rise < shortest:
            raise ConfigError(
                f"a budget of {minutes} minutes, rise {rise}, restarts {list(restarts)}; expected minutes above 0, "
                "and rising shares of them, between 0 and 1 and further apart than the rise is long"
            )
        self.minutes = minutes
        self.rise = rise
        self.starts = starts
        self._spent = 0.0  # seconds, up to the last batch
        self._since = monotonic()

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1, as of the last batch; 0 without a budget."""
        return min(self._spent / (60 * self.minutes), 1.0) if self.minutes else 0.0

    def factor(self, progress: float) -> float:
        """What the peak learning rate is multiplied by: from each start a linear rise, then half a cosine to 0.

        Args:
            progress: Share of the budget that is spent, 0 to 1.
        """
        past, start, end = next(
            (progress - a, a, b) for a, b in pairwise([*self.starts, 1.0]) if progress < b or b == 1
        )
        if past < self.rise:
            return past / self.rise
        return 0.5 * (1 + math.cos(math.pi * (past - self.rise) / (end - start - self.rise)))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start the clock, before any callback's first refresh."""
        self._since = monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._look()
        self._spent = trainer.strategy.broadcast(self._spent)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start it again."""
        self._since = monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the clock and set the learning rate."""
        if self.minutes is None:
            return
        self._look()
        self._spent = trainer.strategy.broadcast(self._spent)
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

    def _look(self) -> None:
        now = monotonic()
        self._spent, self._since = self._spent + now - self._since, now

    def state_dict(self) -> dict[str, Any]:
        """The seconds spent."""
        return {"spent": self._spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the seconds spent."""
        self._spent = state_dict["spent"]


def find_budget(trainer: Trainer) -> TimeBudget:
    """The budget of a run.

    Args:
        trainer: Its Trainer.

    Raises:
        ConfigError: If it has none.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, TimeBudget) and callback.minutes is not None:
            return callback
    raise ConfigError(
        "shares of a time budget were given, and there is no budget; give --budget.minutes, or a Trainer of your "
        "own the callback vos_umec.TimeBudget"
    )
