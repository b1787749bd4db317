"""The loss in the progress bar, which the host reads seldom: it waits for the device each time."""

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar

from vos_umec import UMECModule
from vos_umec.training import module as module_file

SIMILAR = {"class_path": "vos_umec.FrameSimilarityObjective"}


class Bar(Callback):
    """Notes after each step what the progress bar is given."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx:
            self.seen.append(trainer.progress_bar_metrics.get("train/loss"))


def fit(tmp_path, steps, **options):
    clips = [{"frames": torch.rand(2, 3, 32, 32), "frame_indices": torch.arange(2)}] * steps
    bar = Bar()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        max_epochs=1,
        default_root_dir=tmp_path,
        callbacks=[bar, *options.pop("callbacks", [])],
        **options,
    )
    trainer.fit(UMECModule("tiny", [SIMILAR]), torch.utils.data.DataLoader(clips))
    return trainer, bar.seen


def test_the_bar_shows_the_loss_once_a_second(tmp_path, monkeypatch):
    times = iter(torch.arange(0, 100, 0.4).tolist())
    monkeypatch.setattr(module_file, "monotonic", lambda: next(times))
    trainer, seen = fit(tmp_path, steps=6, callbacks=[TQDMProgressBar()])
    assert all(isinstance(loss, float) for loss in seen)
    assert 1 < len(set(seen)) < len(seen)  # newer ones follow, but not after each step
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_without_a_bar_nothing_is_read(tmp_path):
    _, seen = fit(tmp_path, steps=2, enable_progress_bar=False)
    assert seen == [None]


def test_no_metric_is_read_after_each_step(tmp_path, monkeypatch):
    """Lightning turns what is logged for the bar into numbers at every step."""
    kept = []
    monkeypatch.setattr(UMECModule, "log", lambda self, name, value, prog_bar=False, **_: kept.append(prog_bar))
    fit(tmp_path, steps=1, enable_progress_bar=False)
    assert kept
    assert not any(kept)
