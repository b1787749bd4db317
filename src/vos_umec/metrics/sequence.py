"""The DAVIS scores of one sequence: J and F of each object, and their mean, recall and decay over the frames."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vos_umec.errors import DataError, MaskError
from vos_umec.metrics.jf import count, match_radius, pack_pair, pair_f, pair_jaccard

log = logging.getLogger(__name__)

Row = dict[str, str | int | float]
"""Scores of one object: `sequence`, `object` and the seven `FIGURES`, or `frame` and those of one frame."""

Curve = dict[str, Any]
"""J and F of one object over time: `sequence`, `object`, `frames` (names), `J` and `F` (T,), a value a frame."""

FIGURES = ("J&F", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


class Statistics(NamedTuple):
    """The three statistics of DAVIS over the frames."""

    mean: float
    recall: float  # fraction of the frames with a value above 0.5
    decay: float  # mean of the first quarter of the frames minus mean of the last; negative if it improves


def mean_recall_decay(values: ArrayLike) -> Statistics:
    """Mean, recall and decay of the values (T,), T >= 1, of one object in the order of the frames.

    Neighbouring quarters share their border frame, as in the official tool. That tool stores the borders in 8
    bits, so its decay is wrong from 257 frames on; this one is right.

    Raises:
        DataError: `values` is empty, or not one-dimensional.

    Source:
        Perazzi et al., CVPR 2016.

    Example:
        >>> mean_recall_decay([1.0, 0.75, 0.5, 0.5, 0.25])
        Statistics(mean=0.6, recall=0.4, decay=0.5)
    """
    values = np.asarray(values, dtype=np.float64)  # (T,)
    if values.ndim != 1 or not len(values):
        raise DataError(f"values have shape {values.shape}: expected (T,), one value for each of T >= 1 frames")
    # Borders 1, ..., T of the quarters in frames counted from 1, rounded half up.
    borders = np.floor(np.linspace(1, len(values), 5) + 0.5).astype(int) - 1
    first, last = values[: borders[1] + 1], values[borders[3] :]
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean()))


class SequenceScorer:
    """J and F of every object of one sequence by the rules of DAVIS 2017, one frame at a time.

    The objects are the ids of the first ground truth; 255 (void) counts as background. The first and the last frame
    are not scored. Predicted ids that the ground truth does not have count as background and are logged in one
    warning (the official tool stops): such pixels can only lower a score.

    Source:
        The semi-supervised task of DAVIS 2017, Pont-Tuset et al., arXiv 1704.00675.

    Example:
        >>> truth = np.zeros((5, 40, 60), dtype=np.uint8)
        >>> truth[:, 10:30, 10:30] = 7
        >>> scorer = SequenceScorer("dog")
        >>> for frame in truth:
        ...     scorer.update(prediction=frame, target=frame)
        >>> row = scorer.rows()[0]
        >>> row["sequence"], row["object"], row["J&F"], row["J-Decay"]
        ('dog', 7, 1.0, 0.0)
        >>> [(row["frame"], row["J&F"]) for row in scorer.frame_rows()]
        [(1, 1.0), (2, 1.0), (3, 1.0)]
    """

    def __init__(self, sequence: str) -> None:
        self.sequence = sequence
        self._frames = 0
        self._ids: list[int] = []  # of the K objects, ascending
        self._unknown: set[int] = set()
        self._J: list[list[float]] = []  # K values of each frame from the second on
        self._F: list[list[float]] = []

    def update(self, prediction: NDArray[np.integer], target: NDArray[np.integer]) -> None:
        """Score the next frame.

        Args:
            prediction: Object ids, (H, W) integer, 0 is background.
            target: Ground truth ids, (H, W) integer, 255 is void.

        Raises:
            MaskError: The two are not id maps of one size.
            DataError: The first ground truth shows no object.
        """
        kinds = {prediction.dtype.kind, target.dtype.kind}
        if prediction.ndim != 2 or prediction.shape != target.shape or not kinds <= set("biu"):
            raise MaskError(
                f"frame {self._frames} of {self.sequence}: the prediction is {prediction.shape} "
                f"{prediction.dtype}, the ground truth {target.shape} {target.dtype}; expected two maps (H, W) "
                "of integer ids of one size; predict ids at the size of the ground truth"
            )
        self._frames += 1
        if self._frames > 1:
            self._score(prediction, target)
            return
        self._ids = sorted(_present(target) - {0, 255})
        if not self._ids:
            raise DataError(
                f"{self.sequence} shows no object in its first ground truth; expected at least one id "
                "besides 0 and 255, since the first frame names the objects to score"
            )

    def _score(self, prediction: NDArray[np.integer], target: NDArray[np.integer]) -> None:
        """Add J and F of every object in one frame."""
        radius = match_radius(prediction.shape)
        pairs = [pack_pair(prediction == k, target == k) for k in self._ids]
        self._J.append([pair_jaccard(pair) for pair in pairs])
        self._F.append([pair_f(pair, radius) for pair in pairs])
        if sum(int(count(pair.bits[0])) for pair in pairs) < np.count_nonzero(prediction):
            self._unknown |= _present(prediction) - {0, *self._ids} - _present(target)

    @property
    def last(self) -> float:
        """J&F of the last frame that was scored, a fraction, the mean over the objects; NaN before there is one."""
        return float(np.mean([self._J[-1], self._F[-1]])) if self._J else float("nan")

    def frame_rows(self) -> list[Row]:
        """Scores of each object in each frame so far that counts, to find the frames where it is lost.

        Returns:
            Rows in the order of the frames, in a frame by id: `sequence`, `object`, `frame` (0 for the first that
            was added), and `J&F`, `J` and `F` as fractions. There are none of the first and of the last frame, so
            their means by object are those of `rows`.
        """
        rows: list[Row] = []
        for frame, (J, F) in enumerate(zip(self._J[:-1], self._F[:-1], strict=True), 1):
            for object_id, j, f in zip(self._ids, J, F, strict=True):
                place: Row = {"sequence": self.sequence, "object": object_id, "frame": frame}
                rows.append({**place, "J&F": (j + f) / 2, "J": j, "F": f})
        return rows

    def rows(self) -> list[Row]:
        """Scores of the sequence; call it after the last frame.

        Returns:
            One row per object, by id: `sequence`, `object` and the seven `FIGURES` as fractions.

        Raises:
            DataError: There were fewer than three frames, so none is scored.
        """
        if self._frames < 3:
            raise DataError(
                f"{self.sequence} has {self._frames} frame(s) with a ground truth; expected at least 3, since the "
                "first and the last are not scored (the masks of a hidden test set cannot be scored here)"
            )
        if self._unknown:
            message = "%s: predicted ids %s are not in the ground truth (%s) and count as background"
            unknown, ids = (", ".join(map(str, sorted(each))) for each in (self._unknown, self._ids))
            log.warning(message, self.sequence, unknown, ids)
        J, F = np.array(self._J[:-1]), np.array(self._F[:-1])  # (T,K)
        rows: list[Row] = []
        for k, object_id in enumerate(self._ids):
            j, f = mean_recall_decay(J[:, k]), mean_recall_decay(F[:, k])
            figures = dict(zip(FIGURES, ((j.mean + f.mean) / 2, *j, *f), strict=True))
            rows.append({"sequence": self.sequence, "object": object_id, **figures})
        return rows

    def curves(self, names: Sequence[str]) -> list[Curve]:
        """J and F of each object in each scored frame; call it after the last frame.

        Args:
            names: The name of each frame that was passed to `update`.
        """
        curves: list[Curve] = []
        every = self.frame_rows()
        for object_id in self._ids:
            rows = [row for row in every if row["object"] == object_id]
            place = {"sequence": self.sequence, "object": object_id, "frames": list(names[1:-1])}
            curves.append({**place, "J": [row["J"] for row in rows], "F": [row["F"] for row in rows]})
        return curves


def overall(rows: Iterable[Row]) -> dict[str, float]:
    """Scores of a data set: the mean of each of the seven `FIGURES` over all objects of all sequences.

    Each object must be in `rows` once. The result is NaN if there are no rows.
    """
    rows = list(rows)
    if not rows:
        return dict.fromkeys(FIGURES, float("nan"))
    return {name: float(np.mean([float(row[name]) for row in rows])) for name in FIGURES}


def _present(ids: NDArray[np.integer]) -> set[int]:
    """The ids in a map."""
    if ids.dtype == np.uint8:  # counting all 256 takes a tenth of the time of sorting the pixels
        return set(np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist())
    return set(np.unique(ids).tolist())
