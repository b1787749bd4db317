"""A tiny training with pseudo masks: three made videos, a module that notes which masks its clips came with."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import nn

from vos_umec.data.datamodules import VideoFolderDataModule
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.models.encoder import ResNetEncoder
from vos_umec.training.callbacks.pseudo_mask_refresh import PseudoMaskRefresh

FRAMES, SIZE = 10, (40, 56)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=8)


class Toy(LightningModule):
    """As much of a module as the refresh needs; it notes which generation each batch was read with."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = Network()
        self.seen: list[tuple[int, int]] = []

    def training_step(self, batch, batch_idx):
        self.seen += [(self.current_epoch, int(number)) for number in batch["generation"]]
        return self.network.encoder(batch["frames"][:, 0]).key[:, 0].mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def generations(self):
        """Of each epoch, the generations of masks its clips came with."""
        return {epoch: {number for e, number in self.seen if e == epoch} for epoch, _ in self.seen}


class Validated(Toy):
    def validation_step(self, batch, batch_idx):
        pass


class Clips(VideoFolderDataModule):
    def val_dataloader(self):
        return torch.utils.data.DataLoader([0])


class CutOff(Callback):
    """Kills the run at the end of the first epoch, before the refresh."""

    def on_train_epoch_end(self, trainer, pl_module):
        raise ConnectionError


def write_videos(root: Path) -> Path:
    """Three videos of a square that moves over a ramp; one lies deeper and has an odd name."""
    for number, name in enumerate(("a", "b", "deep/c d é")):
        (root / name).mkdir(parents=True)
        for t in range(FRAMES):
            frame = np.zeros((*SIZE, 3), np.uint8)
            frame[..., number] = np.linspace(0, 120, SIZE[1])
            frame[8:28, 2 * t : 2 * t + 20] = 250 - 60 * number
            Image.fromarray(frame).save(root / name / f"{t:05d}.png")
    return root


def fit(
    videos,
    folder,
    refresh,
    epochs=3,
    module=None,
    ckpt_path=None,
    workers=0,
    first=(),
    clips=1,
    data=None,
    **options,
):
    module = module or Toy()
    options = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False} | options
    options["callbacks"] = [*first, refresh, *options.get("callbacks", [])]
    data = Clips(
        str(videos), clip_length=3, gap=1, short_side=40, crop=32, num_workers=workers,
        clips_per_video=clips, store=str(folder / "store"), **{"batch_size": 2, **(data or {})},
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, default_root_dir=folder, enable_model_summary=False,
        **{"devices": 1, **options},
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def make(**settings):
    return PseudoMaskRefresh(
        **{"clusters": 3, "warmup_epochs": 1, "frames_per_video": 6, "short_side": 40, "pictures": 2, **settings}
    )


def contents(root: Path) -> dict[str, np.ndarray]:
    """Everything in the generation that is in force."""
    store = PseudoMaskStore(root)
    names = ("a", "b", "deep/c d é")
    return {name: store.read(name, store.frame_indices(name)) for name in names if len(store.frame_indices(name))}
