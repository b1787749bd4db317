"""A picture of what an evaluation found: one frame of each sequence, the truth beside every method."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from vos_umec.data.layouts import VideoSequence
from vos_umec.io.frames import Frame, resize_frame
from vos_umec.io.mask_values import Ids
from vos_umec.io.masks import read_mask
from vos_umec.io.overlay import overlay
from vos_umec.viz.sheets import contact_sheet, save_picture

_WIDTH = 400  # of a picture
_MOST = 20
"""Sequences that are shown; a sheet of hundreds nobody reads."""


class _Row(NamedTuple):
    labels: list[str]  # the first of them names sequence and frame
    pictures: list[Frame]


class ResultSheet:
    """Collects one frame a sequence, three quarters of the way, where what drifts has drifted.

    Example:
        >>> ResultSheet().save(Path("runs/results.png")) is None
        True
    """

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def moment(self, sequence: VideoSequence) -> int | None:
        """The frame that is shown of a sequence; None once the sheet is full.

        Args:
            sequence: A sequence with annotations.
        """
        annotated = sorted(sequence.annotations)
        return annotated[3 * len(annotated) // 4] if annotated and len(self._rows) < _MOST else None

    def add(
        self, sequence: VideoSequence, index: int, found: Mapping[str, Ids], scores: Mapping[str, float]
    ) -> None:
        """Add a row: the truth, then every method.

        Args:
            sequence: The sequence.
            index: The annotated frame to show.
            found: By method the ids (H, W) that it gave this frame.
            scores: By method J&F of the whole sequence, a fraction.
        """
        frame = sequence.source().read([index])[0]
        masks = [read_mask(sequence.annotations[index]), *found.values()]
        size = (round(frame.shape[0] * _WIDTH / frame.shape[1]), _WIDTH)
        pictures = [resize_frame(overlay(frame, ids), size) for ids in masks]
        figures = [f"{method.replace('_', ' ')} {100 * scores[method]:.0f}" for method in found]
        self._rows.append(_Row([f"{sequence.name}, frame {index}", *figures], pictures))

    def save(self, file: Path) -> Path | None:
        """Write the picture, a sequence a row, by name. Call it on every process: they show what all have found.

        Args:
            file: Where to, a PNG.

        Returns:
            The file; None if there is nothing to show, and on all processes but the first.
        """
        rows = self._rows
        if dist.is_available() and dist.is_initialized():
            parts: list[list[_Row]] = [[]] * dist.get_world_size()
            dist.all_gather_object(parts, rows)
            rows = [row for part in parts for row in part] if dist.get_rank() == 0 else []
        unique = {row.labels[0]: row for row in rows}  # a sampler may give a sequence to two processes
        rows = [unique[name] for name in sorted(unique)[:_MOST]]
        if not rows:
            return None
        columns = len(rows[0].pictures)
        sheet = contact_sheet([row.pictures for row in rows], [row.labels for row in rows], width=_WIDTH * columns)
        save_picture(file, sheet)
        return file
