"""ProgressLines: how far a run is, in lines of the log where no terminal shows a progress bar."""

from contextlib import ExitStack
from functools import partial
from time import monotonic
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vos_umec.progress import duration, inner_fraction, rate, telling, terminal
from vos_umec.training.callbacks.time_budget import TimeBudget


class ProgressLines(Callback):
    """Logs a line now and then: steps or sequences, how many a second, and the time that is left.

    The line comes from a thread, so a long step is no silence. Only rank 0 logs, and nothing where a progress bar
    is seen. What goes on inside, as the frames of a sequence or the videos of a refresh, is told behind it.
    """

    def __init__(self) -> None:
        self._telling = ExitStack()
        self._begun: float | None = None  # when the first batch began
        self._first = 0  # steps that a resumed run had taken before
        self._evaluation: tuple[float, int] | None = None  # when it began, and sequences done
        self._aside = 0.0  # seconds of validation, which are no steps

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to tell."""
        self._telling.close()
        self._begun, self._evaluation, self._aside = None, None, 0.0
        if trainer.is_global_zero:
            hidden = trainer.progress_bar_callback is not None and terminal()
            line = partial(self._line, trainer, stage)
            self._telling.enter_context(telling(lambda: None if hidden else line(), overview=True))

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

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count sequences."""
        self._evaluation = (monotonic(), 0)

    on_test_start = on_predict_start = on_validation_start

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Count a sequence."""
        self._count()

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Count a sequence."""
        self._count()

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Count a sequence."""
        self._count()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count no more."""
        if self._evaluation is not None:
            self._aside += monotonic() - self._evaluation[0]
        self._evaluation = None

    on_test_end = on_predict_end = on_validation_end

    def _count(self) -> None:
        if self._evaluation is not None:
            begun, done = self._evaluation
            self._evaluation = (begun, done + 1)

    def _line(self, trainer: Trainer, stage: str) -> str:
        if self._evaluation is not None:
            return _evaluation_line(trainer, *self._evaluation)
        if stage != "fit":
            return f"{stage}: getting ready"
        if self._begun is None:
            return "training: getting ready"
        elapsed, steps = monotonic() - self._begun, trainer.global_step - self._first
        words = [f"training: step {trainer.global_step} in epoch {trainer.current_epoch}"]
        words += [rate(steps, elapsed - self._aside)] if steps else []
        left = _left(trainer, elapsed)
        return ", ".join(words + ([] if left is None else [f"{duration(left)} left"]))


def _evaluation_line(trainer: Trainer, begun: float, done: int) -> str:
    if trainer.sanity_checking:
        what, batches = "a first look at validation", trainer.num_sanity_val_batches
    elif trainer.testing:
        what, batches = "test", trainer.num_test_batches
    elif trainer.predicting:
        what, batches = "prediction", trainer.num_predict_batches
    else:
        what, batches = "validation", trainer.num_val_batches
    total = sum(batches) if isinstance(batches, list) else batches
    text = f"{what}: sequence {min(done + 1, int(total))} of {total}"
    fraction = (done + inner_fraction()) / total if total else 0.0
    left = (monotonic() - begun) * (1 - fraction) / fraction if 0 < fraction < 1 else None
    return text if left is None else f"{text}, {duration(left)} left"


def _left(trainer: Trainer, elapsed: float) -> float | None:
    """Seconds until the training ends; None where it has no end, or nothing is known of it yet."""
    ends = [
        60 * callback.minutes * (1 - callback.progress)
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, TimeBudget) and callback.minutes is not None
    ]
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    if epochs and epochs > 0 and 0 < batches < float("inf"):
        done = (trainer.current_epoch + trainer.fit_loop.epoch_loop.batch_idx / batches) / epochs
        ends += [elapsed * (1 - done) / done] if done > 0 else []
    return min(ends, default=None)
