"""A picture of what an evaluation found: one frame of each sequence, the truth beside every method."""

from collections.abc import Mapping
from pathlib import Path

from vos_umec.data.layouts import VideoSequence
from vos_umec.io.frames import Frame, resize_frame
from vos_umec.io.mask_values import Ids
from vos_umec.io.masks import read_mask
from vos_umec.io.overlay import overlay
from vos_umec.viz.sheets import contact_sheet, save_picture

_WIDTH = 400  # of a picture
_MOST = 20
"""Sequences that are shown; a sheet of hundreds nobody reads."""


class ResultSheet:
    """Collects one frame a sequence, three quarters of the way, where what drifts has drifted.

    Example:
        >>> ResultSheet().save(Path("runs/results.png")) is None
        True
    """

    def __init__(self) -> None:
        self._rows: list[list[Frame]] = []
        self._labels: list[list[str]] = []

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
        self._rows.append([resize_frame(overlay(frame, ids), size) for ids in masks])
        figures = [f"{method.replace('_', ' ')} {100 * scores[method]:.0f}" for method in found]
        self._labels.append([f"{sequence.name}, frame {index}", *figures])

    def save(self, file: Path) -> Path | None:
        """Write the picture, a sequence a row.

        Args:
            file: Where to, a PNG.

        Returns:
            The file; None if there is nothing to show.
        """
        if not self._rows:
            return None
        save_picture(file, contact_sheet(self._rows, self._labels, width=_WIDTH * len(self._rows[0])))
        return file
