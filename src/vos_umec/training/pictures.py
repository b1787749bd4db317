"""Pictures of a training, to each logger that shows them; frames of an evaluation, to the run's folder, too."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from vos_umec.constants import IGNORE
from vos_umec.data.sequences import VideoSequence
from vos_umec.distributed import gather_objects
from vos_umec.inference.resizing import resize_nearest
from vos_umec.io.frames import Frame, resize_frame
from vos_umec.io.masks import Ids, read_mask
from vos_umec.viz.by_product import ByProduct
from vos_umec.viz.pairs import pair_picture, save_described

_WIDTH = 320  # of a frame in pixels
SHOWN = 3
"""Sequences of which the same frame is shown after every evaluation."""
_EXTREMES = 4
"""Best frames that are kept of a test, and worst ones."""


class ShownFrame(NamedTuple):
    """A frame of an evaluated sequence, with its masks.

    Attributes:
        kind: "shown", the same frame in every evaluation; "best" or "worst", the sequence's own.
        sequence: Name of the sequence.
        frame: Name of the frame.
        score: J&F as a fraction, of the whole sequence for "shown", else of the frame.
        pixels: (h, w, 3) uint8 RGB, made small.
        truth: Ids (h, w).
        prediction: Ids (h, w).
    """

    kind: str
    sequence: str
    frame: str
    score: float
    pixels: Frame
    truth: Ids
    prediction: Ids


class FrameChoice:
    """Which frames of a sequence are shown: one three quarters of the way, and its best and worst.

    Args:
        sequence: An annotated sequence.
        shown: Whether to take the frame at three quarters.
        extremes: Whether to take the best and the worst of the scored frames.
    """

    def __init__(self, sequence: VideoSequence, shown: bool, extremes: bool) -> None:
        self._sequence = sequence
        annotated = sorted(sequence.annotations)
        self._moment = annotated[3 * len(annotated) // 4] if shown and annotated else None
        self._scored = set(annotated[1:-1]) if extremes else set()
        self._kept: dict[str, tuple[int, float, Ids]] = {}

    def see(self, index: int, prediction: Ids, score: float) -> None:
        """Look at an annotated frame: its prediction (H, W) and its J&F, a fraction."""
        if index == self._moment:
            self._kept["shown"] = (index, score, prediction)
        if index in self._scored:
            if "best" not in self._kept or score > self._kept["best"][1]:
                self._kept["best"] = (index, score, prediction)
            if "worst" not in self._kept or score < self._kept["worst"][1]:
                self._kept["worst"] = (index, score, prediction)

    def frames(self, mean: float) -> list[ShownFrame]:
        """The chosen frames; `mean` is J&F of the sequence, a fraction."""
        source, found = self._sequence.source(), []
        for kind, (index, score, prediction) in self._kept.items():
            pixels = source.read([index])[0]
            size = (max(1, round(pixels.shape[0] * _WIDTH / pixels.shape[1])), _WIDTH)
            truth, predicted = (
                resize_nearest(ids, size) for ids in (read_mask(self._sequence.annotations[index]), prediction)
            )
            score = mean if kind == "shown" else score
            about = (kind, self._sequence.name, source.names[index], score)
            found.append(ShownFrame(*about, resize_frame(pixels, size), truth, predicted))
        return found


def choose_frames(frames: Sequence[ShownFrame]) -> list[ShownFrame]:
    """Of many frames those to keep: "shown" of the first sequences by name, the best and the worst ones."""
    kinds = {kind: [each for each in frames if each.kind == kind] for kind in ("shown", "best", "worst")}
    kept = sorted(kinds["shown"], key=lambda each: each.sequence)[:SHOWN]
    kept += sorted(kinds["best"], key=lambda each: -each.score)[:_EXTREMES]
    return kept + sorted(kinds["worst"], key=lambda each: each.score)[:_EXTREMES]


def log_frames(trainer: Trainer, split: str, frames: Sequence[ShownFrame], folder: Path) -> None:
    """Send the frames of an evaluation to the loggers, and write them to `folder/overlays`. Call it on every rank.

    Args:
        trainer: The Trainer.
        split: Name of the split, as scores are logged under.
        frames: This rank's frames.
        folder: The run's folder.
    """
    # A sampler may give a sequence to two ranks.
    unique = {each[:3]: each for part in gather_objects(list(frames)) for each in part}
    if not trainer.is_global_zero:
        return
    for each in choose_frames(list(unique.values())):
        picture = pair_picture(each.pixels, each.truth, each.prediction, _WIDTH)
        about = {"split": split, "step": trainer.global_step, "sequence": each.sequence, "frame": each.frame}
        about |= {"kind": each.kind, "J&F": each.score}
        name = quote(each.sequence.encode("utf-8", "surrogateescape"), safe=" ")[-120:]
        path = folder / "overlays" / f"{split}_{trainer.global_step:07d}_{each.kind}_{name}.png"
        with ByProduct(path):
            save_described(path, picture, about)
        caption = f"{each.sequence}, frame {each.frame}, J&F {100 * each.score:.1f}"
        masks = {"prediction": each.prediction, "truth": each.truth}
        log_picture(trainer, f"{split}_frames/{each.kind}/{each.sequence}", picture, caption, each.pixels, masks)


def log_picture(
    trainer: Trainer,
    name: str,
    picture: Frame,
    caption: str = "",
    frame: Frame | None = None,
    masks: Mapping[str, Ids] | None = None,
) -> None:
    """Send a picture to every logger that shows pictures, W&B and TensorBoard. Call it on the first rank.

    Args:
        trainer: The Trainer.
        name: Name of the picture.
        picture: (H, W, 3) uint8 RGB, with its masks drawn in it.
        caption: A text for W&B.
        frame: (h, w, 3) uint8 RGB, for W&B, which draws the masks itself, as layers; None for `picture`.
        masks: Ids (h, w) by the name of the layer.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            options: dict[str, Any] = {"caption": [caption or name]}
            if frame is not None and masks:
                options["masks"] = [{layer: _layer(ids) for layer, ids in masks.items()}]
            logger.log_image(name, [picture if frame is None else frame], trainer.global_step, **options)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, trainer.global_step, dataformats="HWC")


def _layer(ids: Ids) -> dict[str, Any]:
    """A mask as W&B takes it."""
    names = {int(i): f"object {i}" for i in np.unique(ids) if i not in (0, IGNORE)}
    return {"mask_data": ids.astype(np.int64), "class_labels": {0: "background", IGNORE: "unknown", **names}}
