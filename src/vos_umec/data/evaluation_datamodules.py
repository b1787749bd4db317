"""Lightning data modules of whole annotated sequences: the base class, DAVIS, and YouTube-VOS for prediction."""

import logging
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from vos_umec.data.davis import davis_sequences
from vos_umec.data.sequences import VideoSequence, read_names
from vos_umec.data.youtube_vos import youtube_vos_sequences
from vos_umec.errors import ConfigError

log = logging.getLogger(__name__)


class EvaluationDataModule(LightningDataModule):
    """Base of all data modules: validation, test and prediction get one whole `VideoSequence` per step.

    Subclasses override `find_sequences`; scores are logged under `split_name`. If data is missing,
    `prepare_data` or `setup` raises a `DataError`.
    """

    split_name: str = "val"

    def __init__(self) -> None:
        super().__init__()
        self.sequences: list[VideoSequence] = []

    def find_sequences(self) -> list[VideoSequence]:
        """The sequences to evaluate on; none here."""
        return []

    def setup(self, stage: str) -> None:
        """List the sequences.

        Raises:
            ConfigError: There are none, and the stage is not `fit`.
        """
        self.sequences = self.find_sequences()
        if stage != "fit" and not self.sequences:
            raise ConfigError(
                f"{type(self).__name__} has no sequence to segment: give --data.val_root, or another data module, "
                "such as that of --config configs/davis17.yaml"
            )

    def val_dataloader(self) -> Any:
        """A loader of one sequence per step, for testing and prediction too; an empty list if there are none."""
        # batch_size=None: a step is a sequence, not a batch of them. Nothing is read here, so no workers.
        return DataLoader(self.sequences, batch_size=None) if self.sequences else []  # type: ignore[arg-type]

    test_dataloader = predict_dataloader = val_dataloader

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch of clips; a sequence holds only paths and stays as it is."""
        if isinstance(batch, VideoSequence):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


class DavisDataModule(EvaluationDataModule):
    """Evaluation on DAVIS, without training.

    Args:
        root: Folder that holds `JPEGImages`, `Annotations` and `ImageSets`.
        split: List of sequences: `val`, `test-dev`, ...
    """

    def __init__(self, root: str, split: str = "val") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.split_name = split

    def find_sequences(self) -> list[VideoSequence]:
        """The sequences of the list."""
        return davis_sequences(self.hparams["root"], self.split_name)


class YouTubeVOSPredictDataModule(EvaluationDataModule):
    """YouTube-VOS for `vos-umec predict`; `vos-umec submission` and `evaluate` read the masks that it writes.

    If `<split>_all_frames` exists, masks are propagated through every frame; those of the required frames are
    written. Scores come from `vos-umec evaluate --dataset youtube-vos`.

    Args:
        root: Folder that holds the split.
        split: `valid`, `test`, or `train` with `videos`.
        all_frames: Read every frame (True) or every fifth (False); None for every frame if that download exists.
        videos: Text file of the names of the videos to take, one per line; None for all.

    Raises:
        ConfigError: In `setup`, for any command but `predict`.
    """

    def __init__(
        self, root: str, split: str = "valid", all_frames: bool | None = None, videos: str | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        """List the videos."""
        if stage != "predict":
            raise ConfigError(
                f"YouTubeVOSPredictDataModule cannot be used for `{stage}`: use `vos-umec predict`, and then "
                "`vos-umec evaluate --dataset youtube-vos` for scores, where every mask is public"
            )
        super().setup(stage)

    def find_sequences(self) -> list[VideoSequence]:
        """The videos of the split."""
        hp = self.hparams
        videos = None if hp["videos"] is None else read_names(hp["videos"])
        sequences = youtube_vos_sequences(hp["root"], hp["split"], hp["all_frames"], videos)
        if sequences[0].path.is_relative_to(Path(hp["root"], hp["split"])):
            log.warning("only every fifth frame is read; the download %s_all_frames has them all", hp["split"])
        return sequences
