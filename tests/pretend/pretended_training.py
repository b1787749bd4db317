"""Training on the pretended device: steps, and a whole life cycle (fit, resume, validate, test, predict)."""

import logging
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
from pretended_device import Counts, cuda
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger

from vos_umec import PseudoMaskRefresh, SyntheticDataModule, TimeBudget, UMECModule
from vos_umec.cli.trainer import best_precision
from vos_umec.training.callbacks.data_wait import DataWait

SEGMENTER = {"rounds": 1, "references": 3, "readout": {"radius": 6}}


class Steps(Callback):
    """Keeps what each epoch's second step costs, from the end of the first: its batch, logs and callbacks, too."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.rows: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if batch_idx == 1:
            masks = trainer.datamodule.store.generation > 0
            self.rows.append({"masks": masks} | self.counts.summary())
        self.counts.reset()


def new_trainer(root: Path, epochs: int, counts: Counts, **options: Any) -> Trainer:
    """A Trainer as the command has it: mixed precision, a progress bar, a logger and the callbacks of each run."""
    refresh = PseudoMaskRefresh(every_n_epochs=1, warmup_epochs=1, frames_per_video=6, short_side=64, pictures=1)
    return Trainer(
        accelerator="gpu",
        devices=1,
        precision=best_precision("gpu"),
        max_epochs=epochs,
        gradient_clip_val=1.0,
        logger=CSVLogger(root),
        default_root_dir=root,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=epochs,
        callbacks=[refresh, TimeBudget(), DataWait(), Steps(counts)],
        **options,
    )


def data(root: Path, **options: Any) -> SyntheticDataModule:
    return SyntheticDataModule(
        str(root.parent / "videos"),  # for all trainings
        train_videos=4,
        val_videos=1,
        frames=10,
        size=(80, 96),
        short_side=72,
        crop=64,
        clip_length=4,
        gap=2,
        batch_size=2,
        num_workers=0,
        store=str(root / "masks"),
        **options,
    )


def module(network: str, objective: str) -> UMECModule:
    objectives = [{"class_path": f"vos_umec.{objective}"}]
    return UMECModule(network, objectives, evaluation={"segmenter": SEGMENTER})


def steps(trainer: Trainer, name: str) -> list[dict[str, Any]]:
    """A row for the last step without pseudo masks, and one for the last step with them."""
    [counted] = [each for each in trainer.callbacks if isinstance(each, Steps)]
    found = {"with L_seg" if row.pop("masks") else "L_corr alone": row for row in counted.rows}
    return [{"name": f"training step, {name}, {kind}", "error": None} | row for kind, row in found.items()]


def life_cycle(root: Path, counts: Counts) -> list[dict[str, Any]]:
    """Fit with a refresh, resume, validate, test, predict."""
    trainer, net = new_trainer(root, 2, counts), module("compact", "EquivarianceObjective")
    trainer.fit(net, data(root, copy_paste=0.5))
    rows = steps(trainer, "compact, equivariance")
    checkpoint = trainer.checkpoint_callback.best_model_path
    again = new_trainer(root, 3, counts)
    again.fit(net := module("compact", "EquivarianceObjective"), data(root), ckpt_path=checkpoint)
    if not (again.current_epoch == 3 and again.datamodule.store.generation == 2):
        raise AssertionError(f"resumed to epoch {again.current_epoch}, masks {again.datamodule.store.generation}")
    for run in (again.validate, again.test):
        run(net, data(root), verbose=False)
    again.predict(net, data(root), return_predictions=False)
    if not list(Path(net.written).rglob("*.png")):
        raise AssertionError(f"no masks in {net.written}")
    return rows


def deterministic(root: Path, counts: Counts) -> list[dict[str, Any]]:
    trainer = new_trainer(root, 2, counts, deterministic=True, limit_val_batches=0)
    try:
        trainer.fit(module("tiny", "PhotometricObjective"), data(root))
    finally:
        torch.use_deterministic_algorithms(False)
    return steps(trainer, "tiny, photometric, deterministic")


def without_bf16(root: Path, counts: Counts) -> list[dict[str, Any]]:
    trainer = new_trainer(root, 2, counts, limit_val_batches=0)
    if trainer.precision != "16-mixed":
        raise AssertionError(f"a GPU without bf16 trains in {trainer.precision}")
    trainer.fit(module("tiny", "EquivarianceObjective"), data(root))
    return steps(trainer, "tiny, equivariance, fp16")


def measure() -> list[dict[str, Any]]:
    """A row for each kind of step, and one for each training that failed."""
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for train in (life_cycle, deterministic, without_bf16):
            with cuda(bf16=train is not without_bf16) as counts:
                torch.manual_seed(0)
                try:
                    rows += train(Path(folder, train.__name__), counts)
                except Exception:
                    name = train.__name__.replace("_", " ")
                    rows.append({"name": name, "error": traceback.format_exc(limit=-6)} | counts.summary())
    return rows
