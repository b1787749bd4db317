"""Training data whose copy-paste pieces are mostly whole objects; `train.yaml` names `MovingObjects`."""

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vos_umec.data.datamodules import VideoFolderDataModule
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import ConfigError
from vos_umec.transforms.copy_paste import CopyPaste

log = logging.getLogger("vos_umec.moving_objects")  # whose messages the commands show

FIRST_SEGMENT = 11
"""Ids below are those of objects, from 1 on; see find_objects.py."""


class PasteWholeObjects(CopyPaste):
    """Copy-paste whose pieces are whole objects of their source clips, where these show one.

    Args:
        p: Probability that a clip becomes a composite.
        whole: Probability that a piece is an object, where the source clip has one; else it is as in `CopyPaste`.
        area: Smallest and largest part of each frame that an object fills to be pasted.
    """

    def __init__(self, p: float, whole: float = 0.9, area: tuple[float, float] = (0.01, 0.45)) -> None:
        super().__init__(p)
        self.whole, self.area = whole, area

    def _cut_out(self, blob: Tensor, centre: Tensor, segments: Tensor) -> Tensor:
        """As the base's, (B, T, S, S); `centre` (B, 2) becomes that of the object, about which it moves."""
        pieces = super()._cut_out(blob, centre, segments)
        S = segments.shape[-1]
        for b, clip in enumerate(segments):
            masks = [clip == id_ for id_ in clip.unique().tolist() if 0 < id_ < FIRST_SEGMENT]  # each (T, S, S)
            shares = [mask.flatten(1).float().mean(dim=1) for mask in masks]  # (T,) each
            least, most = self.area
            fitting = [mask for mask, a in zip(masks, shares, strict=True) if least <= a.min() and a.max() <= most]
            if not fitting or torch.rand(()) >= self.whole:
                continue
            mask = fitting[int(torch.randint(len(fitting), ()))]
            pieces[b] = mask.float()
            _, y, x = mask.nonzero().float().mean(dim=0).unbind()
            centre[b] = (torch.stack((x, y)) + 0.5) * 2 / S - 1
        return pieces


class _KeptMasks(PseudoMaskStore):
    """Masks that training keeps, though its callback PseudoMaskRefresh did not make them."""

    def hide(self) -> None:
        """Do nothing: the refresh hides masks that it takes for another run's."""


class MovingObjects(VideoFolderDataModule):
    """Clips of the videos in which find_objects.py found an object.

    Args:
        store: Folder of the masks.
        **options: As of `VideoFolderDataModule`.
    """

    def __init__(self, store: str, **options: Any) -> None:
        super().__init__(store=store, **options)
        self.copy_paste = PasteWholeObjects(self.hparams["copy_paste"])

    def setup(self, stage: str) -> None:
        """List the videos that have masks."""
        super().setup(stage)
        if stage != "fit":
            return
        self.store = _KeptMasks(self.store.root)
        entries = tuple(entry for entry in self.index if len(self.store.frame_indices(entry.id)))
        if not entries:
            raise ConfigError(
                f"no video of {self.index.root} has masks in {self.store.root}; expected those that "
                "find_objects.py made of the same folder: run it first"
            )
        self.index = replace(self.index, entries=entries)
        log.info("%d of the videos have an object", len(entries))
