"""FiniteLoss: a run whose loss is not finite ends, and says in which videos that happened."""

import json
import math
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from vos_umec.distributed import on_any_rank
from vos_umec.errors import VosUmecError
from vos_umec.io.atomic import atomic_path

LOOK = 1.0
"""Seconds between two looks at losses on another device than the CPU. For each look, the host waits for it."""


class FiniteLoss(Callback):
    """Ends training when a loss is NaN or infinite, and saves the names of the batch's videos.

    `not_finite.json` in the run's folder holds the loss, the step, the epoch, and the videos and frames of the
    batch and of the one before it, whose gradients may have been the cause. No checkpoint is written any more, so
    the last one is good.

    On a CPU each loss is looked at, elsewhere all of the last second at once. The progress bar shows the last one.
    `UMECModule` brings the callback.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, dict[str, Any]]] = []  # losses not looked at yet, and their batches
        self._last: dict[str, Any] = {}  # the last batch that was looked at
        self._looked = -math.inf
        self._folder = Path()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the run's folder, on every rank at once."""
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)
        self._pending, self._last = [], {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the loss and the batch, and look if it is time."""
        if not outputs:  # a step without a loss
            return
        place = {"step": trainer.global_step, "epoch": trainer.current_epoch, "batch": batch_idx}
        clips = {"videos": batch.get("video", []), "frames": batch.get("frame_indices", [])}
        self._pending.append((outputs["loss"].detach(), {**place, **clips}))
        if pl_module.device.type == "cpu" or monotonic() - self._looked > LOOK:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before pseudo masks are made with these weights."""
        self._look(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let no checkpoint of weights that are not finite replace a good one."""
        self._look(trainer)
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in pl_module.parameters()])
        if on_any_rank(not finite.all(), pl_module.device):
            self._fail(trainer, "weights", "are NaN or infinite", self._last)

    def _look(self, trainer: Trainer) -> None:
        """Read the losses of the last steps.

        Raises:
            VosUmecError: One is not finite.
        """
        self._looked = monotonic()
        pending, self._pending = self._pending, []
        losses = torch.stack([loss for loss, _ in pending]).tolist() if pending else []
        for loss, (_, batch) in zip(losses, pending, strict=True):
            if not math.isfinite(loss):
                self._fail(trainer, "loss", f"is {loss}", batch)
            self._last = batch
        if losses and trainer.progress_bar_callback is not None and trainer.is_global_zero:
            trainer.progress_bar_metrics["train/loss"] = losses[-1]

    def _fail(self, trainer: Trainer, what: str, value: str, batch: dict[str, Any]) -> NoReturn:
        rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = self._folder / f"not_finite{rank}.json"
        before = self._last if self._last is not batch else {}
        with atomic_path(path) as temporary:
            content = {what: value.split(" ", 1)[1], **batch, "before": before}
            temporary.write_text(json.dumps(content, indent=2, default=lambda x: x.tolist()), encoding="utf-8")
        videos = list(dict.fromkeys(batch.get("videos", [])))
        shown = ", ".join(videos[:3]) + (f" and {len(videos) - 3} more" if len(videos) > 3 else "")
        place = f"step {batch.get('step', 0)}, in epoch {batch.get('epoch', 0)}"
        raise VosUmecError(
            f"the {what} {value} after {place}, on clips "
            f"of {shown or 'unnamed videos'}; {path} has all of them. The last checkpoint is from before: look at "
            "the videos; then resume with --ckpt_path last and a smaller --trainer.gradient_clip_val, or train "
            "anew with a lower --model.learning_rate"
        )
