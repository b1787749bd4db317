"""PseudoMaskRefresh: clustering and training take turns (UMEC section 1, table 4d)."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from vos_umec.clustering.kmeans import import_faiss
from vos_umec.clustering.segments import SpaceTimeClusterer
from vos_umec.errors import ConfigError
from vos_umec.training.budget import find_budget
from vos_umec.training.generation import Generation, make_generation, training_videos

log = logging.getLogger(__name__)

MOSTLY_POSITION = 0.5
"""Share of the objective from position above which the segments may be tiles."""


class PseudoMaskRefresh(Callback):
    """Cluster every training video into pseudo masks, first after the warm-up, then every few epochs.

    A refresh runs at the end of an epoch, when no data-loader worker is reading ahead; with `warmup_epochs` 0 the
    first one runs before the first batch is drawn. Each process takes its share of the videos, and the new masks
    come into force on all of them at once. A video's segments depend on the weights, the video and the number of
    the generation, not on the process that makes them. A video that cannot be read is left out with a warning.

    The state travels with checkpoints: a resumed run goes on with the masks in force, and makes them anew where
    they are gone. Health figures go to every logger as `segments/...`; pictures of a few videos, the same ones each
    time, to the folder `pictures` of the store, to W&B and to TensorBoard.

    The data module must have `index`, `store` and `gap`, as every `ClipModule` has. To cluster another way,
    override `build_clusterer`. Sharded strategies (FSDP, DeepSpeed) are not supported, for each process encodes
    videos of its own.

    Args:
        every_n_epochs: Epochs from one refresh to the next; 0 for the first one alone.
        warmup_epochs: Epochs before the first one; None takes the module's hyperparameter of that name.
        at: Instead of by epochs, refresh at these shares of the run's `TimeBudget`, rising from 0 to 1; at the end
            of the epoch in which a share is reached, so that epochs should be short.
        clusters: M, segments of a video.
        position_weight: lambda, weight of the position code.
        fusion: How keys and position code are joined, "concat" or "add".
        frames_per_video: Frames of a video that are clustered, a random window of it.
        short_side: Short side in pixels at which they are.
        pictures: Videos of which a picture is kept; 0 for none.

    Raises:
        ConfigError: If a setting is out of range.

    Source:
        UMEC section "Space-time clustering" and table 4d.

    Example:
        >>> PseudoMaskRefresh(every_n_epochs=5, clusters=8).build_clusterer().clusters
        8
    """

    def __init__(
        self,
        every_n_epochs: int = 10,
        warmup_epochs: int | None = None,
        at: Sequence[float] | None = None,
        clusters: int = 5,
        position_weight: float = 0.5,
        fusion: Literal["concat", "add"] = "concat",
        frames_per_video: int = 24,
        short_side: int = 256,
        pictures: int = 4,
    ) -> None:
        if min(every_n_epochs, warmup_epochs or 0, pictures) < 0 or min(frames_per_video, short_side) < 1:
            raise ConfigError(
                f"every_n_epochs={every_n_epochs}, warmup_epochs={warmup_epochs}, pictures={pictures}, "
                f"frames_per_video={frames_per_video}, short_side={short_side}; "
                "expected the first three at least 0 and the others at least 1"
            )
        if at is not None and (not at or sorted(at) != list(at) or not 0 <= at[0] <= at[-1] <= 1):
            raise ConfigError(f"refreshes at {list(at)}; expected rising shares of the time budget, from 0 to 1")
        self.at = at
        self.every_n_epochs = every_n_epochs
        self.warmup_epochs = warmup_epochs
        self.clusters = clusters
        self.position_weight = position_weight
        self.fusion = fusion
        self.frames_per_video = frames_per_video
        self.short_side = short_side
        self.pictures = pictures
        self._clusterer = self.build_clusterer()  # here, so that a wrong setting shows before the warm-up
        self._done = -1  # the epoch before which the last refresh ran; with `at`, the number of its share

    def build_clusterer(self) -> SpaceTimeClusterer:
        """What makes segments of a video's keys."""
        return SpaceTimeClusterer(self.clusters, self.position_weight, self.fusion)

    def due(self, epoch: int, warmup: int) -> int:
        """The latest epoch up to `epoch` before which a refresh belongs; -1 if there is none.

        Args:
            epoch: An epoch, counted from 0.
            warmup: Epochs before the first refresh.

        Example:
            >>> [PseudoMaskRefresh(every_n_epochs=3).due(epoch, warmup=2) for epoch in range(9)]
            [-1, -1, 2, 2, 2, 5, 5, 5, 8]
        """
        if epoch < warmup:
            return -1
        return epoch - (epoch - warmup) % self.every_n_epochs if self.every_n_epochs else warmup

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that all a refresh needs is there, before the warm-up is spent."""
        if stage == "fit":
            import_faiss()
            training_videos(trainer)
            self._due(trainer, pl_module, 0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before there are data loaders: the first refresh if there is no warm-up; masks a resumed run lost."""
        store = training_videos(trainer).store
        if self._done >= 0 and store.generation == 0:
            log.warning("the pseudo masks of the resumed run are gone from %s: clustering anew", store.root)
            self._refresh(trainer, pl_module, self._done)
        elif self._done < 0 and self._due(trainer, pl_module, 0) == 0:
            self._refresh(trainer, pl_module, 0)
        elif self._done < 0 and store.generation:
            log.warning(
                "pseudo masks in %s are of another run: not used, replaced at the first refresh", store.root
            )
            store.hide()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A refresh that was due and did not run: a checkpoint of an epoch's last step is resumed in the next one.

        Only now is the epoch known that a resumed run is in; clips that workers have read ahead stay as they are.
        """
        self._refresh_if_due(trainer, pl_module, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The usual time of a refresh, unless training is over."""
        if _goes_on(trainer):
            self._refresh_if_due(trainer, pl_module, trainer.current_epoch + 1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """V and D that never learned are not to be taken for ones that did."""
        if self._done < 0:
            log.warning(
                "training ended after %d epochs and %d steps, before the first pseudo masks (%s): V and D are as "
                "they began; train longer, make them earlier, or read out without refinement (rounds 0)",
                trainer.current_epoch,
                trainer.global_step,
                f"warmup_epochs {self._warmup(pl_module)}" if self.at is None else f"at {list(self.at)}",
            )

    def state_dict(self) -> dict[str, Any]:
        """When the last refresh ran."""
        return {"done": self._done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the schedule of the run that is resumed."""
        self._done = state_dict["done"]

    def _warmup(self, pl_module: LightningModule) -> int:
        warmup = pl_module.hparams.get("warmup_epochs") if self.warmup_epochs is None else self.warmup_epochs
        if warmup is None:
            name = type(pl_module).__name__
            raise ConfigError(
                f"{name} has no hyperparameter warmup_epochs; give warmup_epochs to PseudoMaskRefresh"
            )
        return int(warmup)

    def _due(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> int:
        """The latest refresh that belongs before an epoch, or before now where time counts; -1 for none."""
        if self.at is None:
            return self.due(epoch, self._warmup(pl_module))
        share = find_budget(trainer).share
        return sum(at <= share for at in self.at) - 1

    def _refresh_if_due(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        due = self._due(trainer, pl_module, epoch)
        if due > self._done:
            self._refresh(trainer, pl_module, due)

    def _refresh(self, trainer: Trainer, pl_module: LightningModule, due: int) -> None:
        manifest = {
            **({"epoch": due} if self.at is None else {"share": self.at[due]}),
            "clusters": self.clusters,
            "position_weight": self.position_weight,
            "fusion": self.fusion,
        }
        settings = (self.frames_per_video, self.short_side, self.pictures)
        generation = make_generation(trainer, pl_module, self._clusterer, *settings, manifest)
        self._done = due
        if trainer.is_global_zero:
            self._report(trainer, generation)

    def _report(self, trainer: Trainer, generation: Generation) -> None:
        """Tell the log, the loggers and their pictures."""
        health, total = generation.health, len(training_videos(trainer).index.entries)
        figures = ", ".join(f"{name} {value:.3f}" for name, value in health.items())
        log.info("pseudo masks %d: %d of %d videos; %s", generation.number, generation.videos, total, figures)
        if health["position"] > MOSTLY_POSITION:
            log.warning(
                "%.0f %% of the clustering's objective comes from position, so segments may be tiles; look at the "
                "pictures, and lower position_weight (now %g) or train longer first",
                100 * health["position"],
                self.position_weight,
            )
        metrics = {f"segments/{name}": value for name, value in health.items()}
        step = trainer.global_step
        for logger in trainer.loggers:
            logger.log_metrics({**metrics, "segments/videos": float(generation.videos)}, step=step)
            for video, path in generation.pictures.items():
                if isinstance(logger, WandbLogger):
                    logger.log_image(f"segments/{video}", [str(path)])
                elif isinstance(logger, TensorBoardLogger):
                    picture = np.asarray(Image.open(path))
                    logger.experiment.add_image(f"segments/{video}", picture, step, dataformats="HWC")


def _goes_on(trainer: Trainer) -> bool:
    """Whether another epoch follows the one that ends."""
    epochs, steps = trainer.current_epoch + 1, trainer.global_step
    epochs_left = trainer.max_epochs in (None, -1) or epochs < trainer.max_epochs
    steps_left = trainer.max_steps == -1 or steps < trainer.max_steps
    may_stop = epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0)
    return bool(epochs_left and steps_left and not (trainer.should_stop and may_stop))
