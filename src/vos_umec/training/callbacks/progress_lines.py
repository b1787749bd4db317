"""ProgressLines: how far a run is, in lines of the log where no terminal shows a progress bar."""

from contextlib import ExitStack
from time import monotonic
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vos_umec.progress import duration, rate, telling, terminal
from vos_umec.training.callbacks.time_budget import TimeBudget


class ProgressLines(Callback):
    """Logs a line now and then: the steps, how many a second, and the time that is left of the training.

    The line comes from a thread, so a long step is no silence. Only rank 0 logs, and nothing where a progress bar
    is seen. While pseudo masks are made, their own progress is told instead.
    """

    def __init__(self) -> None:
        self._telling = ExitStack()
        self._begun: float | None = None  # when the first batch began
        self._first = 0  # steps that a resumed run had taken before

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to tell."""
        self._telling.close()
        self._begun = None
        if trainer.is_global_zero:
            hidden = trainer.progress_bar_callback is not None and terminal()
            self._telling.enter_context(telling(lambda: None if hidden else self._line(trainer, stage)))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell no more."""
        self._telling.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell no more."""
        self._telling.close()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock at the first batch."""
        if self._begun is None:
            self._begun, self._first = monotonic(), trainer.global_step

    def _line(self, trainer: Trainer, stage: str) -> str:
        if stage != "fit":
            return f"{stage}: at work"
        if self._begun is None:
            return "training: getting ready"
        elapsed, steps = monotonic() - self._begun, trainer.global_step - self._first
        words = [f"training: step {trainer.global_step} in epoch {trainer.current_epoch}", rate(steps, elapsed)]
        left = _left(trainer, elapsed)
        return ", ".join([word for word in words if word] + ([] if left is None else [f"{duration(left)} left"]))


def _left(trainer: Trainer, elapsed: float) -> float | None:
    """Seconds until the training ends; None where it has no end, or nothing is known of it yet."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, TimeBudget) and callback.minutes is not None:
            return 60 * callback.minutes * (1 - callback.progress)
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    if not epochs or epochs < 0 or not 0 < batches < float("inf"):
        return None
    done = (trainer.current_epoch + trainer.fit_loop.epoch_loop.batch_idx / batches) / epochs
    return elapsed * (1 - done) / done if done > 0 else None
