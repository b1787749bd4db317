"""Lightning data modules for training: clips of any folder, of YouTube-VOS, of synthetic videos."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from vos_umec.data.clips import ClipDataset, ClipSampler, clip_loader, seed_draws
from vos_umec.data.davis import davis_sequences
from vos_umec.data.evaluation_datamodules import EvaluationDataModule
from vos_umec.data.index import VideoIndex, scan
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.data.sequences import VideoSequence, read_names
from vos_umec.data.shared_folder import sharing_ranks
from vos_umec.data.synthetic import SyntheticVOS
from vos_umec.data.youtube_vos import youtube_vos_frames
from vos_umec.distributed import gather_objects
from vos_umec.errors import ConfigError, DataError
from vos_umec.transforms.augment import ClipAugment
from vos_umec.transforms.copy_paste import CopyPaste

log = logging.getLogger(__name__)

_AUGMENTATION = 0xC11B  # keeps its draws apart from those of the training step, whose seed may be the same number
FEW_CLIPS = 4
"""Clips on one of several devices below which a warning is due."""


class ClipDataModule(EvaluationDataModule):
    """Base of the data modules that train: clips of all videos below `train_root`, with their pseudo masks.

    A batch holds `frames` (B, T, 3, crop, crop) float32 normalised, `segments` (B, T, crop, crop) uint8 with 255
    where nothing is known, `frame_indices` (B, T) int64, `video` (B ids) and `generation` (B,) int64, the
    generation of pseudo masks that each clip was read with.

    Args:
        clip_length: T, frames of a clip.
        gap: Distance between successive frames of a run, in frames that exist.
        run_length: Frames of a run; None: a clip is one run. Objectives that compare near and far frames, such as
            equivariance, want runs of 2 or 3 with `gap` 1.
        run_gap: Least and most frames of the original video between two runs of a clip.
        fps: Count `gap` and `run_gap` at this frame rate, for videos of different rates; None: count frames. A
            folder of frames has no rate, unless it is a copy of a video by `vos-umec prepare`.
        short_side: Short side in pixels to which frames are decoded.
        crop: Side of the training square in pixels.
        crop_scale: Smallest and largest part of the decoded square's side that is cut out for it.
        crop_each_frame: Crop each frame of a clip anew, its pseudo masks with it. For objectives that do not
            compare places in frames: cycle consistency and frame similarity.
        copy_paste: Probability that a clip becomes a copy-paste composite, see `CopyPaste`.
        batch_size: Clips per batch, on all devices together: each gets B = batch_size / devices.
        mask_phase_batch_size: The same from the first pseudo masks on; None for `batch_size`.
        clips_per_video: Clips drawn from each video in an epoch.
        num_workers: Processes that read clips; None for one per core but one, at most 16, divided among the
            processes that train on this machine.
        store: Folder of the pseudo masks; None for `pseudo_masks` in the run's folder.
        seed: Seed of the clips, which depend only on it, the epoch and the item.

    Attributes:
        index: The training videos, after `setup("fit")`.
        store: Their pseudo masks, after `setup("fit")`.

    Raises:
        ConfigError: A number is out of range, a batch cannot be divided among the devices, or `fps` is given and a
            training video has no frame rate.
    """

    index: VideoIndex
    store: PseudoMaskStore

    def __init__(
        self,
        clip_length: int = 5,
        gap: int = 2,
        run_length: int | None = None,
        run_gap: tuple[int, int] = (10, 40),
        fps: float | None = None,
        short_side: int = 319,
        crop: int = 256,
        crop_scale: tuple[float, float] = (0.8, 1.0),
        crop_each_frame: bool = False,
        copy_paste: float = 0.0,
        batch_size: int = 12,
        mask_phase_batch_size: int | None = None,
        clips_per_video: int = 1,
        num_workers: int | None = None,
        store: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()  # those of the subclass too
        if num_workers is not None and num_workers < 0:
            raise ConfigError(f"num_workers is {num_workers}; expected at least 0, or null to choose by the cores")
        numbers = {"batch_size": batch_size, "mask_phase_batch_size": mask_phase_batch_size, "crop": crop}
        if wrong := [
            f"{name} is {number}" for name, number in numbers.items() if number is not None and number < 1
        ]:
            raise ConfigError(f"{' and '.join(wrong)}; expected at least 1")
        self.gap = gap
        self.short_side = short_side
        self.augment = ClipAugment(crop, crop_scale, crop_each_frame)
        self.copy_paste = CopyPaste(copy_paste)

    def train_root(self) -> Path:
        """Folder of the training videos."""
        return Path(self.hparams["root"])

    def find_videos(self) -> VideoIndex:
        """The videos to train on."""
        return scan(self.train_root(), warn=False)  # prepare_data warned

    def prepare_data(self) -> None:
        """Index the videos once per node; the other processes then find the index on disk."""
        scan(self.train_root())

    def setup(self, stage: str) -> None:
        """List the sequences, and for training the videos and their pseudo masks."""
        super().setup(stage)
        if stage != "fit":
            return
        self._check_batches()
        self.index = self.find_videos()
        self._check_same_videos()
        log.info("training on %d videos of %s", len(self.index), self.index.root)
        self.store = PseudoMaskStore(self.hparams["store"] or _run_folder(self.trainer) / "pseudo_masks")
        if self.store.generation:
            log.info("using generation %d of pseudo masks in %s", self.store.generation, self.store.root)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled clips: this process's shard of an epoch."""
        hp, trainer = self.hparams, self.trainer
        options = ("clip_length", "gap", "run_length", "run_gap", "fps", "short_side", "seed", "clips_per_video")
        clips = ClipDataset(self.index, store=self.store, **{name: hp[name] for name in options})
        shard = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        sampler = ClipSampler(clips, *shard, seed=hp["seed"])
        batch, later = hp["batch_size"], hp["mask_phase_batch_size"]
        if later is not None:
            warming_up = self.store.generation == 0
            batch = batch if warming_up else later
            if trainer:
                # Until the batches have their last size, each epoch asks for a new loader.
                trainer.reload_dataloaders_every_n_epochs = int(warming_up)  # type: ignore[attr-defined]
        local_ranks = trainer.num_devices if trainer else 1
        return clip_loader(sampler, batch // shard[0], hp["num_workers"], local_ranks)

    def _check_same_videos(self) -> None:
        """Refuse ranks that found different videos, for they divide the clips of one list among them."""
        first, *others = gather_objects([entry.id for entry in self.index])
        for rank, ids in enumerate(others, 1):
            if ids != first:
                example = min(set(ids) ^ set(first))
                raise DataError(
                    f"rank {rank} found {len(ids)} videos in {self.index.root} and rank 0 {len(first)}: {example} "
                    "is missing on one of them. Give all nodes the same files; change none while training starts"
                )

    def _check_batches(self) -> None:
        """Refuse a batch that the devices cannot share evenly; warn where a device gets few clips."""
        trainer = self.trainer
        if trainer is None or trainer.world_size == 1:
            return
        devices = trainer.world_size
        for name in ("batch_size", "mask_phase_batch_size"):
            batch = self.hparams[name]
            if batch is None:
                continue
            if batch % devices:
                below = max(batch // devices, 1) * devices
                raise ConfigError(
                    f"{name} is {batch}, which counts the clips of all {devices} devices together; expected a "
                    f"multiple of {devices}: give {below} or {below + devices}"
                )
            if batch // devices < FEW_CLIPS and trainer.is_global_zero:
                log.warning(
                    "%s %d leaves %d clips on each of %d devices: batch norms that are not synchronised then have "
                    "noisy statistics, and devices mostly wait for each other; give %d or more, or fewer devices",
                    name, batch, batch // devices, devices, FEW_CLIPS * devices,
                )  # fmt: skip

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment training clips on the device; validation batches stay as they are.

        The draws depend on the seed, the rank, the epoch and the number of the batch.
        """
        if not (self.trainer and self.trainer.training):
            return batch
        loop: Any = self.trainer.fit_loop
        place = self.trainer.global_rank, loop.epoch_progress.current.processed, loop.batch_idx + 1
        seed_draws(_AUGMENTATION, self.hparams["seed"], *place)
        return self.copy_paste(self.augment(batch))

    def state_dict(self) -> dict[str, Any]:
        """Place and generation of the pseudo masks, for a run that resumes from the checkpoint."""
        if not hasattr(self, "store"):  # not set up for training
            return {}
        self.store.needed = self.store.generation
        return {"store": str(self.store.root.resolve()), "generation": self.store.generation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to the pseudo masks that the checkpoint was written with; those on disk may be later ones."""
        trainer = self.trainer
        if trainer is None or trainer.state.fn != "fit":
            return
        generation = state_dict["generation"]
        if trainer.global_rank == sharing_ranks(self.store.root)[0]:
            if self.store.generation:
                self.store.rewind(generation)
            elif generation:
                self.store.adopt(PseudoMaskStore(state_dict["store"]), generation)
        trainer.strategy.barrier("pseudo masks")
        self.store.needed = generation
        if self.store.reload() < generation:
            log.warning(
                "generation %d of pseudo masks of the resumed run is no longer in %s; "
                "using generation %d (0 is none) until the next clustering",
                generation, state_dict["store"], self.store.generation,
            )  # fmt: skip


class VideoFolderDataModule(ClipDataModule):
    """Training on any folder of videos and frame folders, validation on a DAVIS folder.

    Args:
        root: Folder of videos, searched at any depth.
        val_root: DAVIS folder to validate and test on; None to train without validation.
        val_split: Its list of sequences. Scores are logged as "val/...", whatever the list is called.
        **clip_options: Options of the clips, see `ClipDataModule`.
    """

    def __init__(self, root: str, val_root: str | None = None, val_split: str = "val", **clip_options: Any) -> None:
        super().__init__(**clip_options)

    def find_sequences(self) -> list[VideoSequence]:
        """The DAVIS sequences of `val_root`."""
        val_root, val_split = self.hparams["val_root"], self.hparams["val_split"]
        return [] if val_root is None else davis_sequences(val_root, val_split)


class YouTubeVOSDataModule(VideoFolderDataModule):
    """Training on YouTube-VOS without its labels, validation on a DAVIS folder.

    Args:
        root: Folder that holds `train/JPEGImages`.
        all_frames: Train on `train_all_frames/JPEGImages`, the separate download that has every frame.
        held_out: Text file of the names of videos that are not trained on, one per line.
        **options: Options of validation and clips, see `VideoFolderDataModule`.
    """

    def __init__(self, root: str, all_frames: bool = False, held_out: str | None = None, **options: Any) -> None:
        super().__init__(root, **options)

    def train_root(self) -> Path:
        """`train/JPEGImages`, or that of the all-frames download."""
        return youtube_vos_frames(self.hparams["root"], "train", self.hparams["all_frames"])

    def find_videos(self) -> VideoIndex:
        """All videos but the held-out ones."""
        index, path = super().find_videos(), self.hparams["held_out"]
        if path is None:
            return index
        held_out = set(read_names(path))
        absent = sorted(held_out - {entry.id for entry in index})
        if absent:
            raise DataError(f"{path} holds out {absent[0]}, which is not in {index.root}: check the list")
        entries = tuple(entry for entry in index if entry.id not in held_out)
        if not entries:
            raise DataError(f"{path} holds out all {len(index)} videos of {index.root}: leave some to train on")
        return replace(index, entries=entries)


class SyntheticDataModule(ClipDataModule):
    """Training and validation on synthetic videos, which are made on first use.

    Args:
        root: Folder for the videos.
        train_videos: Videos to train on.
        val_videos: Videos with masks to validate and test on.
        frames: Frames of each video.
        size: (H, W) in pixels.
        video_seed: Seed of the videos.
        **clip_options: Options of the clips, see `ClipDataModule`.
    """

    def __init__(
        self,
        root: str = "data/synthetic",
        train_videos: int = 24,
        val_videos: int = 6,
        frames: int = 40,
        size: tuple[int, int] = (192, 320),
        video_seed: int = 0,
        **clip_options: Any,
    ) -> None:
        super().__init__(**clip_options)
        self.videos = SyntheticVOS(root, train_videos, val_videos, frames, size, video_seed)

    def train_root(self) -> Path:
        """Folder of the training videos."""
        return self.videos.train_root

    def find_sequences(self) -> list[VideoSequence]:
        """The validation videos."""
        return self.videos.val_sequences()

    def prepare_data(self) -> None:
        """Make the videos and index them."""
        self.videos.prepare()
        super().prepare_data()


def _run_folder(trainer: Trainer | None) -> Path:
    """Folder of this run, which also holds its checkpoints; the same on every process."""
    if trainer is None:
        return Path()
    folder, logger = Path(trainer.default_root_dir), trainer.logger
    if logger is not None:
        version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
        folder = Path(logger.save_dir or folder, str(logger.name), version)
    return Path(trainer.strategy.broadcast(folder))
