"""The loss in the progress bar."""

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar

from vos_umec import UMECModule

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


def test_the_bar_shows_the_losses_that_were_looked_at(tmp_path):
    trainer, seen = fit(tmp_path, steps=3, callbacks=[TQDMProgressBar()])
    assert all(isinstance(loss, float) for loss in seen)
    assert len(set(seen)) == 2  # on a CPU, each one
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_without_a_bar_nothing_is_shown(tmp_path):
    _, seen = fit(tmp_path, steps=2, enable_progress_bar=False)
    assert seen == [None]


def test_no_metric_is_read_after_each_step(tmp_path, monkeypatch):
    """Lightning turns what is logged for the bar into numbers at every step."""
    kept = []
    monkeypatch.setattr(UMECModule, "log", lambda self, name, value, prog_bar=False, **_: kept.append(prog_bar))
    fit(tmp_path, steps=1, enable_progress_bar=False)
    assert kept
    assert not any(kept)
