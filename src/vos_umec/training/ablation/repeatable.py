"""RepeatableEpochs: a run that was killed and resumed ends as one that was not."""

import time
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class RepeatableEpochs(Callback):
    """Make every epoch depend on its number, the seed, the weights and the pseudo masks of its checkpoint alone.

    A checkpoint holds weights, optimiser and schedules, but not the state of the random generators. So each epoch
    draws from a generator seeded for it. A checkpoint at the end of each epoch is what makes this complete; one
    within an epoch repeats the draws of its beginning.

    Also counts the seconds of training, those before an interruption too (as of the last checkpoint).

    Args:
        seed: Seed of the run.

    Example:
        >>> RepeatableEpochs(seed=3).state_dict()
        {'seconds': 0.0}
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._seconds = 0.0
        self._since: float | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed torch's generators for this epoch; the clips' own draws know the epoch already."""
        state = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
        torch.manual_seed(int(state.generate_state(1, np.uint64)[0]))

    def state_dict(self) -> dict[str, Any]:
        """Seconds of training."""
        running = 0.0 if self._since is None else time.monotonic() - self._since
        return {"seconds": self._seconds + running}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self._seconds = state_dict["seconds"]
