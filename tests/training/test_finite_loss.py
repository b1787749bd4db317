import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from vos_umec import CorrespondenceObjective, UMECModule
from vos_umec.errors import VosUmecError
from vos_umec.training.callbacks import finite_loss


class Spoiled(Dataset):
    """Six clips, one a batch; one of them gives a loss that is not finite."""

    def __init__(self, bad: int, value: float) -> None:
        self.bad, self.value = bad, value

    def __len__(self):
        return 6

    def __getitem__(self, index):
        frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(index))
        factor = self.value if index == self.bad else 1.0
        return {"frames": frames, "frame_indices": torch.arange(2) + index, "video": f"v{index}", "factor": factor}


class Scaled(CorrespondenceObjective):
    def forward(self, clip):
        return {"loss": clip.keys.square().mean() * Watched.factor}


class Watched(UMECModule):
    factor = torch.ones(1)

    def training_step(self, batch, batch_idx):
        Watched.factor = batch["factor"].float()
        return super().training_step(batch, batch_idx)


def fit(folder: Path, bad: int, value: float, *callbacks: Callback) -> None:
    module = Watched("tiny", [{"class_path": f"{__name__}.Scaled"}])
    keep = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks, keep],
    )  # fmt: skip
    trainer.fit(module, DataLoader(Spoiled(bad, value)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_videos(tmp_path, value):
    with pytest.raises(
        VosUmecError, match=rf"loss is {value} after step 4.* v3; .*not_finite.json.*--ckpt_path last"
    ):
        fit(tmp_path, 3, value)
    told = json.loads((tmp_path / "not_finite.json").read_text())
    assert (told["loss"], told["videos"], told["frames"], told["epoch"]) == (str(value), ["v3"], [[3, 4]], 0)
    assert told["before"]["videos"] == ["v2"]
    assert sorted(path.stem for path in tmp_path.glob("*.ckpt")) == ["step=1", "step=2", "step=3"]


def test_no_checkpoint_keeps_weights_that_are_not_finite(tmp_path):
    """A finite loss may have gradients that are not."""

    class Spoil(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            if trainer.global_step == 2:
                next(pl_module.parameters()).data.fill_(float("nan"))

    with pytest.raises(VosUmecError, match="weights are NaN or infinite after step 2"):
        fit(tmp_path, -1, 1.0, Spoil())
    assert [path.stem for path in tmp_path.glob("*.ckpt")] == ["step=1"]


def test_elsewhere_than_on_a_cpu_several_losses_are_looked_at_together(tmp_path, monkeypatch):
    class Device:
        type = "cuda"

    callback = finite_loss.FiniteLoss()
    now = [10.0]
    monkeypatch.setattr(finite_loss, "monotonic", lambda: now[0])
    shown: dict[str, float] = {}
    place = {"global_step": 1, "current_epoch": 0, "world_size": 1, "is_global_zero": True}
    bar = {"progress_bar_callback": object(), "progress_bar_metrics": shown}
    trainer = type("Trainer", (), {**place, **bar})()
    module = type("Module", (), {"device": Device()})()
    callback._folder = tmp_path

    def end(number: int, loss: float) -> None:
        batch = {"video": [f"v{number}"], "frame_indices": torch.tensor([[number]])}
        callback.on_train_batch_end(trainer, module, {"loss": torch.tensor(loss)}, batch, number)

    end(0, 1.0)
    now[0] += 0.4
    end(1, float("nan"))
    now[0] += 0.4
    end(2, float("nan"))
    assert not list(tmp_path.iterdir())
    assert shown == {"train/loss": 1.0}
    now[0] += 0.4
    with pytest.raises(VosUmecError, match="v1"):
        end(3, float("nan"))
    assert json.loads((tmp_path / "not_finite.json").read_text())["before"]["videos"] == ["v0"]
