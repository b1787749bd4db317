"""One generation of pseudo masks: every process clusters its share of the videos (UMEC section 1)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from rich.progress import track

from vos_umec.clustering.health import SegmentHealth
from vos_umec.clustering.segments import SpaceTimeClusterer
from vos_umec.data.index import VideoEntry, VideoIndex
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import ConfigError, DataError
from vos_umec.models.encoder import Encoder
from vos_umec.training.share import VideoShare

HEALTH = tuple(field.name for field in fields(SegmentHealth))
"""Names of the health figures."""


class TrainingVideos(Protocol):
    """What a refresh needs of the data module; every `ClipModule` has it."""

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
            "Give the Trainer a ClipModule such as VideoFolderModule, or leave the callback out"
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

    share = VideoShare(
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
