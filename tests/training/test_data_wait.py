"""The fraction of waiting is logged, with one warning where it is large."""

import csv
import time
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger

from vos_umec.data.clips import ClipLoader, ClipSampler
from vos_umec.training.callbacks.data_wait import DataWait


class Slow(torch.utils.data.Dataset):
    def __init__(self, seconds: float, items: int = 24) -> None:
        self.seconds, self.items = seconds, items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, item: int) -> torch.Tensor:
        time.sleep(self.seconds)
        return torch.ones(1)


class Module(LightningModule):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seconds = seconds

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        time.sleep(self.seconds)
        return self.layer(batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        time.sleep(0.3)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(tmp_path, waiting: float, working: float, **options) -> list[float]:
    """Values of `train/data_wait` in the order they were logged."""
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=logger, callbacks=[DataWait()], log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **options,
    )  # fmt: skip
    validation = torch.utils.data.DataLoader([torch.ones(1)])
    clips = Slow(waiting)
    trainer.fit(Module(working), ClipLoader(clips, sampler=ClipSampler(clips)), validation)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        return [float(row["train/data_wait"]) for row in csv.DictReader(file) if row.get("train/data_wait")]


@pytest.mark.parametrize(("waiting", "working"), [(0.02, 0.02), (0.03, 0.005)])
def test_the_fraction_is_logged_with_one_warning(tmp_path, caplog, waiting, working) -> None:
    fractions = fit(tmp_path, waiting, working, val_check_interval=6)  # validation is not waited for
    expected = waiting / (waiting + working)
    assert len(fractions) == 23  # after each step but the first
    assert expected - 0.25 < fractions[-1] < expected + 0.1  # the machine may be busy with something else
    warnings = [record for record in caplog.records if "vos-umec prepare" in record.getMessage()]
    assert len(warnings) == 1


def test_a_loop_that_does_not_wait_gets_no_warning(tmp_path, caplog) -> None:
    fractions = fit(tmp_path, waiting=0.0, working=0.02, limit_val_batches=0)
    assert len(fractions) == 23
    assert fractions[-1] < 0.15
    assert "vos-umec prepare" not in caplog.text


def test_loaders_that_do_not_count_are_passed_over(tmp_path) -> None:
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[DataWait()], enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Module(0.0), torch.utils.data.DataLoader(Slow(0.0, items=3)))
    assert "train/data_wait" not in trainer.callback_metrics
