"""One generation of pseudo masks: every process clusters its share of the videos (UMEC section 1)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from rich.progress import track

from vos_umec.clustering.kmeans import import_faiss
from vos_umec.clustering.segments import SegmentHealth, SpaceTimeClusterer
from vos_umec.clustering.videos import VideoShard
from vos_umec.data.index import VideoEntry, VideoIndex
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import ConfigError, DataError
from vos_umec.models.encoder import Encoder
from vos_umec.training.callbacks.time_budget import find_budget

HEALTH = tuple(field.name for field in fields(SegmentHealth))
"""Names of the health figures."""


class TrainingVideos(Protocol):
    """What a refresh needs of the data module; every `ClipDataModule` has it."""

    index: VideoIndex
    store: PseudoMaskStore
    gap: int


@dataclass(frozen=True)
class Generation:
    """What became of one generation.

    Attributes:
        number: Its number in the store.
        videos: Videos that have masks now, on all processes together.
        health: Means of the health figures over them, the same on all processes.
        pictures: Pictures of some videos, by video id; a video that failed has none.
    """

    number: int
    videos: int
    health: dict[str, float]
    pictures: dict[str, Path]


def training_videos(trainer: Trainer) -> TrainingVideos:
    """The Trainer's data module, if it has what a refresh needs.

    Raises:
        ConfigError: If it has not.
    """
    data = getattr(trainer, "datamodule", None)
    missing = [name for name in ("index", "store", "gap") if not hasattr(data, name)]
    if missing:
        raise ConfigError(
            f"PseudoMaskRefresh needs a data module with {', '.join(missing)}; found {type(data).__name__}. "
            "Give the Trainer a ClipDataModule such as VideoFolderDataModule, or leave the callback out"
        )
    return data  # type: ignore[return-value]  # just looked at


def make_generation(
    trainer: Trainer,
    pl_module: LightningModule,
    clusterer: SpaceTimeClusterer,
    frames_per_video: int,
    short_side: int,
    pictures: int,
    manifest: Mapping[str, object],
) -> Generation:
    """Cluster all training videos and put the masks in force on every process; every process calls it.

    Args:
        trainer: Its data module has the videos and the store.
        pl_module: Its `network.encoder` makes the keys.
        clusterer: Makes segments of them.
        frames_per_video: Frames of the window that is drawn of each video.
        short_side: Short side at which they are clustered.
        pictures: Videos of which a picture is kept, spread over the index.
        manifest: What the store is to remember of the generation, as JSON values.

    Raises:
        DataError: If no video at all could be clustered.
    """
    data, strategy = training_videos(trainer), trainer.strategy
    entries = data.index.entries
    number = strategy.broadcast(data.store.next)
    places = np.linspace(0, len(entries) - 1, min(pictures, len(entries))).astype(int).tolist()
    shown = {entries[i].id: _picture(data.store.root, number, entries[i].id) for i in places}
    encoder = _encoder(pl_module)
    _share_buffers(trainer, encoder)
    if trainer.is_global_zero:
        data.store.begin(number)
    strategy.barrier("pseudo masks begun")

    share = VideoShard(
        data.store,
        number,
        clusterer,
        encoder,
        pl_module.device,
        frames_per_video,
        data.gap,
        short_side,
        shown,
        trainer.precision_plugin.forward_context,
    )
    healths = share.run(_progress(trainer, entries[trainer.global_rank :: trainer.world_size]))
    rows = [[0.0] * (len(HEALTH) + 1), *([*astuple(health), 1.0] for health in healths)]  # the 1 counts the videos
    sums = torch.tensor(rows, device=pl_module.device).sum(dim=0)
    *totals, videos = strategy.reduce(sums, reduce_op="sum").tolist()
    if videos == 0:
        raise DataError(f"none of the {len(entries)} videos could be clustered; the warnings above say why")
    health = {name: total / videos for name, total in zip(HEALTH, totals, strict=True)}
    strategy.barrier("pseudo masks written")
    if trainer.is_global_zero:
        data.store.commit(number, {**manifest, "health": health})
    strategy.barrier("pseudo masks in force")
    data.store.reload()
    return Generation(number, int(videos), health, {name: path for name, path in shown.items() if path.is_file()})


def _encoder(pl_module: LightningModule) -> Encoder:
    encoder = getattr(getattr(pl_module, "network", None), "encoder", None)
    if encoder is None:
        raise ConfigError(f"{type(pl_module).__name__} has no network.encoder to cluster with; use a UMECModule")
    return encoder  # type: ignore[no-any-return]  # anything with an Encoder's attributes may stand there


def _share_buffers(trainer: Trainer, module: torch.nn.Module) -> None:
    """Give every process the main one's running statistics: each has last seen a batch of its own."""
    if trainer.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _progress(trainer: Trainer, share: Sequence[VideoEntry]) -> Iterator[VideoEntry]:
    """Show the main process's share as a bar, where the Trainer shows bars."""
    bar = trainer.progress_bar_callback
    running = bar.progress if isinstance(bar, RichProgressBar) else None
    if running is not None and not running.live.is_started:
        running = None
    if running is not None:
        running.stop()  # a console has one live display at a time
    try:
        yield from track(
            share, "Clustering videos", transient=True, disable=bar is None or not trainer.is_global_zero
        )
    finally:
        if running is not None:
            running.start()


def _picture(folder: Path, number: int, video: str) -> Path:
    name = quote(video.encode("utf-8", "surrogateescape"), safe=" ")[-150:]  # file systems stop at 255 bytes
    return folder / "pictures" / f"refresh_{number:03d}_{name}.png"


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

    The data module must have `index`, `store` and `gap`, as every `ClipDataModule` has. To cluster another way,
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
        share = find_budget(trainer).progress
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
