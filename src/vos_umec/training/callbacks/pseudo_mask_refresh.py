"""PseudoMaskRefresh: when and how the training videos are clustered into pseudo masks (UMEC eq. 1, table 4d)."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer

from vos_umec.clustering.kmeans import import_faiss
from vos_umec.clustering.segments import SegmentHealth, SpaceTimeClusterer
from vos_umec.clustering.videos import cluster_videos
from vos_umec.data.clips import default_workers
from vos_umec.data.datamodules import ClipDataModule
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.data.shared_folder import all_or_none, sharing_ranks
from vos_umec.distributed import gather_objects, on_any_rank
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.container import available_cores
from vos_umec.models.encoder import Encoder
from vos_umec.progress import progress
from vos_umec.training.callbacks.time_budget import find_budget
from vos_umec.training.pictures import log_picture

log = logging.getLogger(__name__)

HEALTH = tuple(field.name for field in fields(SegmentHealth))
MOSTLY_POSITION = 0.5  # fraction of the objective above which a warning says that segments may be tiles
FEW_STEPS = 20  # V and D of one step harmed, those of 39 steps helped (docs/conclusions.md)


class PseudoMaskRefresh(Callback):
    """Cluster every training video into pseudo masks, first after the warm-up, then every few epochs.

    A refresh runs at the end of an epoch, when no data-loader worker is reading ahead; with `warmup_epochs` 0 the
    first one runs before the first batch. Each rank clusters its shard of the videos, then all ranks switch to the
    new masks at once. On several nodes without a shared disk, each node clusters all videos into a store of its
    own. A video that cannot be read is left out with a warning. Any other failure of one rank ends all of them.

    A resumed run keeps its schedule and its masks, and makes the masks anew where they are gone. Health figures go
    to every logger as `segments/...`. Pictures of a few videos, always the same, go to the folder `pictures` of the
    store, to W&B and to TensorBoard.

    The data module needs `index`, `store` and `gap`, which every `ClipDataModule` has. To cluster another way,
    override `build_clusterer`. Strategies that shard the model (FSDP, DeepSpeed) are not supported.

    Args:
        every_n_epochs: Epochs from one refresh to the next; 0 for the first refresh only.
        warmup_epochs: Epochs before the first one, of correspondence alone.
        at: Refresh by time instead of epochs: rising values of `TimeBudget.progress`, 0 to 1. Each refresh waits
            for the end of its epoch, so epochs should be short.
        clusters: M, segments of a video.
        position_weight: lambda, weight of the position code.
        frames_per_video: Frames of each video that are clustered, a random window.
        short_side: Short side of these frames and of the masks in pixels.
        pictures: Number of videos of which a picture is kept; 0 for none.

    Raises:
        ConfigError: If a setting is out of range.
    """

    def __init__(
        self,
        every_n_epochs: int = 10,
        warmup_epochs: int = 10,
        at: Sequence[float] | None = None,
        clusters: int = 5,
        position_weight: float = 0.5,
        frames_per_video: int = 24,
        short_side: int = 256,
        pictures: int = 4,
    ) -> None:
        if min(every_n_epochs, warmup_epochs, pictures) < 0 or min(frames_per_video, short_side) < 1:
            raise ConfigError(
                f"every_n_epochs={every_n_epochs}, warmup_epochs={warmup_epochs}, pictures={pictures}, "
                f"frames_per_video={frames_per_video}, short_side={short_side}; "
                "expected the first three at least 0 and the others at least 1"
            )
        if at is not None and (not at or sorted(at) != list(at) or not 0 <= at[0] <= at[-1] <= 1):
            raise ConfigError(f"at is {list(at)}; expected rising fractions of the time budget, from 0 to 1")
        self.at = at
        self.every_n_epochs = every_n_epochs
        self.warmup_epochs = warmup_epochs
        self.clusters = clusters
        self.position_weight = position_weight
        self.frames_per_video = frames_per_video
        self.short_side = short_side
        self.pictures = pictures
        self._clusterer = self.build_clusterer()  # here, so that a wrong setting shows before the warm-up
        self._ranks = [0]  # those that share the store of this one
        self._done = -1  # the last refresh: the epoch before which it ran, or with `at` its index there
        self._first_step = 0  # steps that were done before the first refresh

    def build_clusterer(self) -> SpaceTimeClusterer:
        """The clusterer, which makes segments from a video's keys."""
        return SpaceTimeClusterer(self.clusters, self.position_weight)

    def due(self, epoch: int) -> int:
        """The latest epoch up to `epoch`, counted from 0, before which a refresh is due; -1 if there is none.

        Example:
            >>> [PseudoMaskRefresh(every_n_epochs=3, warmup_epochs=2).due(epoch) for epoch in range(9)]
            [-1, -1, 2, 2, 2, 5, 5, 5, 8]
        """
        if epoch < self.warmup_epochs:
            return -1
        if not self.every_n_epochs:
            return self.warmup_epochs
        return epoch - (epoch - self.warmup_epochs) % self.every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the data module, and faiss where it is needed, before time is spent on the warm-up."""
        if stage == "fit":
            if trainer.strategy.root_device.type != "cuda":
                import_faiss()
            _training_data(trainer)
            self._due(trainer, 0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first refresh if there is no warm-up, and the masks that a resumed run lost; no loader runs yet."""
        store = _training_data(trainer).store
        self._ranks = sharing_ranks(store.root)
        if len(self._ranks) < trainer.world_size and self._ranks[0] == trainer.global_rank:
            log.info(
                "ranks %s of %d share %s, and cluster all videos into it; with a folder on a disk that all ranks "
                "share, each would cluster fewer", self._ranks, trainer.world_size, store.root,
            )  # fmt: skip
        if self._done >= 0 and on_any_rank(store.generation == 0, pl_module.device):
            log.warning("the pseudo masks of the resumed run are gone from %s: clustering anew", store.root)
            self._refresh(trainer, pl_module, self._done)
        elif self._done < 0 and self._due(trainer, 0) == 0:
            self._refresh(trainer, pl_module, 0)
        elif self._done < 0 and store.generation:
            log.warning("pseudo masks in %s belong to another run: the first refresh replaces them", store.root)
            store.hide()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A refresh that was due when the run was interrupted; only now is the epoch of a resumed run known."""
        before = self._done
        self._refresh_if_due(trainer, pl_module, trainer.current_epoch)
        if self._done > before:  # a loader of the warm-up exists already: its batches may have another size
            trainer.fit_loop._last_train_dl_reload_epoch = float("-inf")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The usual time of a refresh, unless training is over."""
        if _another_epoch_follows(trainer):
            self._refresh_if_due(trainer, pl_module, trainer.current_epoch + 1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn where the mask encoder V and the decoder D are untrained, or hardly trained."""
        steps = trainer.global_step - self._first_step
        if self._done < 0:
            if _training_data(trainer).store.generation:
                return  # a data module of one's own keeps masks that were made in another way
            log.warning(
                "training ended after %d steps in %d epochs, before the first pseudo masks (%s): the mask encoder "
                "and the decoder are untrained; train longer, refresh earlier, or segment with --rounds 0",
                trainer.global_step,
                trainer.current_epoch,
                f"warmup_epochs {self.warmup_epochs}" if self.at is None else f"at {list(self.at)}",
            )
        elif steps < FEW_STEPS and not _began_with_decoder(pl_module):
            log.warning(
                "training ended %d steps after the first pseudo masks: the mask encoder and the decoder are hardly "
                "trained; train longer (a time budget includes the clustering), refresh earlier, or segment with "
                "--rounds 0",
                steps,
            )

    def state_dict(self) -> dict[str, Any]:
        """When the last refresh and the first one ran."""
        return {"done": self._done, "first_step": self._first_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the schedule of the resumed run."""
        self._done, self._first_step = state_dict["done"], state_dict["first_step"]

    def _due(self, trainer: Trainer, epoch: int) -> int:
        """The latest refresh that is due before an epoch, or with `at` before now; -1 for none."""
        if self.at is None:
            return self.due(epoch)
        progress = find_budget(trainer).progress
        return sum(at <= progress for at in self.at) - 1

    def _refresh_if_due(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        due = self._due(trainer, epoch)
        if due > self._done:
            self._refresh(trainer, pl_module, due)

    def _refresh(self, trainer: Trainer, pl_module: LightningModule, due: int) -> None:
        """Cluster all videos and switch to the new masks; every rank calls it."""
        data, encoder, strategy = _training_data(trainer), _synced_encoder(trainer, pl_module), trainer.strategy
        entries, store = data.index.entries, data.store
        number = max(gather_objects(store.next))
        shown = np.linspace(0, len(entries) - 1, min(self.pictures, len(entries))).astype(int).tolist()
        pictures = {entries[i].id: _picture(store.root, number, entries[i].id) for i in shown}
        first = trainer.global_rank == self._ranks[0]
        with all_or_none("begin new pseudo masks"):
            if first:
                store.begin(number)

        place = self._ranks.index(trainer.global_rank)
        watched = trainer.progress_bar_callback is not None and trainer.is_global_zero
        with all_or_none("cluster its videos"), _discarded_on_error(store, number):
            healths = cluster_videos(
                progress(entries[place :: len(self._ranks)], "clustering videos", show=watched),
                store,
                number,
                self._clusterer,
                encoder,
                pl_module.device,
                self.frames_per_video,
                data.gap,
                self.short_side,
                pictures,
                trainer.precision_plugin.forward_context,
                _reading_processes(trainer),
            )
        counted = healths if self._ranks[0] == 0 else []  # other nodes have clustered the same videos
        rows = [[0.0] * (len(HEALTH) + 1), *([*astuple(health), 1.0] for health in counted)]  # 1 counts the video
        sums = torch.tensor(rows, device=pl_module.device).sum(dim=0)
        *totals, videos = strategy.reduce(sums, reduce_op="sum").tolist()
        if videos == 0:
            raise DataError(f"none of the {len(entries)} videos could be clustered; see the warnings above")
        health = {name: total / videos for name, total in zip(HEALTH, totals, strict=True)}

        with all_or_none("put the new pseudo masks in force"):
            if first:
                when = {"epoch": due} if self.at is None else {"progress": self.at[due]}
                settings = {"clusters": self.clusters, "position_weight": self.position_weight}
                store.commit(number, {**when, **settings, "health": health})
        store.reload()
        self._first_step = trainer.global_step if self._done < 0 else self._first_step
        self._done = due
        if trainer.is_global_zero:
            figures = ", ".join(f"{name} {value:.3f}" for name, value in health.items())
            log.info("pseudo masks %d: %d of %d videos; %s", number, videos, len(entries), figures)
            made = {video: path for video, path in pictures.items() if path.is_file()}
            self._log_health(trainer, {**health, "videos": videos}, made)

    def _log_health(self, trainer: Trainer, figures: dict[str, float], pictures: dict[str, Path]) -> None:
        """Send figures and pictures to the loggers, and warn of tiles."""
        if figures["position"] > MOSTLY_POSITION:
            log.warning(
                "%.0f %% of the clustering's objective comes from position, so segments may be tiles; look at the "
                "pictures, and lower position_weight (now %g) or train longer before the first refresh",
                100 * figures["position"],
                self.position_weight,
            )
        step = trainer.global_step
        for logger in trainer.loggers:
            logger.log_metrics({f"segments/{name}": value for name, value in figures.items()}, step=step)
        for video, path in pictures.items():
            with Image.open(path) as picture:
                log_picture(trainer, f"segments/{video}", np.asarray(picture.convert("RGB")))


def _training_data(trainer: Trainer) -> ClipDataModule:
    """The Trainer's data module, if it has all that a refresh needs."""
    data = getattr(trainer, "datamodule", None)
    missing = [name for name in ("index", "store", "gap") if not hasattr(data, name)]
    if missing:
        raise ConfigError(
            f"PseudoMaskRefresh needs a data module with {', '.join(missing)}; found {type(data).__name__}. "
            "Give the Trainer a ClipDataModule such as VideoFolderDataModule, or leave the callback out"
        )
    return data  # type: ignore[return-value]  # any module with these three will do


def _synced_encoder(trainer: Trainer, pl_module: LightningModule) -> Encoder:
    """The module's encoder, with rank 0's running statistics on all ranks: each has seen batches of its own."""
    encoder = getattr(getattr(pl_module, "network", None), "encoder", None)
    if encoder is None:
        raise ConfigError(f"{type(pl_module).__name__} has no network.encoder to cluster with; use a UMECModule")
    if trainer.world_size > 1:
        for buffer in encoder.buffers():
            torch.distributed.broadcast(buffer, src=0)
    return encoder  # type: ignore[no-any-return]  # anything with an Encoder's attributes will do


@contextmanager
def _discarded_on_error(store: PseudoMaskStore, number: int) -> Iterator[None]:
    """If this rank fails, discard the new masks, so that the ranks that share them fail soon, too."""
    try:
        yield
    except Exception:
        store.discard(number)
        raise


def _began_with_decoder(module: LightningModule) -> bool:
    """Whether training began with weights of a decoder, not of an encoder alone or none."""
    began = getattr(module, "started_from", [])[-1:]
    return any("path" in each and "decoder" in each.get("parts", ["decoder"]) for each in began)


def _reading_processes(trainer: Trainer) -> int:
    """Processes that read for one rank. Beside a CPU that encodes, one keeps it busy.

    It is a process rather than a thread for the sake of decoders that crash: the training then ends with the name
    of the video. Where loaders have no workers, there is none here either.
    """
    if trainer.strategy.root_device.type == "cuda":
        return default_workers(available_cores(), trainer.num_devices)
    given = getattr(getattr(trainer, "datamodule", None), "hparams", {})
    return 0 if given.get("num_workers") == 0 else 1


def _picture(folder: Path, number: int, video: str) -> Path:
    name = quote(video.encode("utf-8", "surrogateescape"), safe=" ")[-150:]  # file systems allow 255 bytes
    return folder / "pictures" / f"refresh_{number:03d}_{name}.png"


def _another_epoch_follows(trainer: Trainer) -> bool:
    """Whether another epoch follows the one that ends."""
    epochs, steps = trainer.current_epoch + 1, trainer.global_step
    epochs_left = trainer.max_epochs in (None, -1) or epochs < trainer.max_epochs
    steps_left = trainer.max_steps == -1 or steps < trainer.max_steps
    may_stop = epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0)
    return bool(epochs_left and steps_left and not (trainer.should_stop and may_stop))
