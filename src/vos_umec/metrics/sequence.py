"""Scores of the objects of one sequence, frame by frame, and their means. Imports no torch."""

import logging
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vos_umec.errors import DataError, MaskError
from vos_umec.metrics.bits import count, pack_pair
from vos_umec.metrics.boundary import match_radius, pair_f
from vos_umec.metrics.jaccard import pair_jaccard
from vos_umec.metrics.statistics import mean_recall_decay

log = logging.getLogger(__name__)

Row = dict[str, str | int | float]
FIGURES = ("J&F", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


class SequenceScorer:
    """J and F of every object of one sequence by the DAVIS rules, one frame at a time.

    The objects are the ids of the first ground truth (255, void, counts as background). The first and the
    last frame are not scored. Ids of a prediction that the ground truth does not have count as background
    and are reported in one warning (the official tool exits): such pixels can only lower a score.

    Args:
        sequence: Name of the sequence, which the rows carry.

    Source:
        METHOD section 6, the semi-supervised task of DAVIS 2017.

    Example:
        >>> truth = np.zeros((5, 40, 60), dtype=np.uint8)
        >>> truth[:, 10:30, 10:30] = 7
        >>> scorer = SequenceScorer("dog")
        >>> for frame in truth:
        ...     scorer.update(prediction=frame, target=frame)
        >>> row = scorer.rows()[0]
        >>> row["sequence"], row["object"], row["J&F"], row["J-Decay"]
        ('dog', 7, 1.0, 0.0)
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
                "of integer ids of one size, so predict ids at the size of the ground truth"
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

    def rows(self) -> list[Row]:
        """Figures of the sequence, which ended with the last update.

        Returns:
            One row per object, by id: ``sequence``, ``object`` and the seven ``FIGURES`` as fractions.

        Raises:
            DataError: There were fewer than three frames, so none is scored.
        """
        if self._frames < 3:
            raise DataError(
                f"{self.sequence} has {self._frames} frame(s) with a ground truth; expected at least 3, since the "
                "first and the last are not scored (the masks of a hidden test set cannot be scored here)"
            )
        if self._unknown:
            log.warning(
                "%s: predicted ids %s are not in the ground truth (%s) and count as background",
                self.sequence,
                ", ".join(map(str, sorted(self._unknown))),
                ", ".join(map(str, self._ids)),
            )
        J, F = np.array(self._J[:-1]), np.array(self._F[:-1])  # (T,K)
        rows: list[Row] = []
        for k, object_id in enumerate(self._ids):
            j, f = mean_recall_decay(J[:, k]), mean_recall_decay(F[:, k])
            figures = dict(zip(FIGURES, ((j.mean + f.mean) / 2, *j, *f), strict=True))
            rows.append({"sequence": self.sequence, "object": object_id, **figures})
        return rows


def overall(rows: Iterable[Row]) -> dict[str, float]:
    """Figures of a data set: the mean of each over all objects, whatever sequence they are in.

    Args:
        rows: Rows of :class:`SequenceScorer`, each object once.

    Returns:
        The seven ``FIGURES`` as fractions; NaN where there is no row.

    Source:
        METHOD section 6. The mean of every object's J&F is the J&F of the two means.

    Example:
        >>> rows = [{"sequence": "dog", "object": k, **dict.fromkeys(FIGURES, k / 4)} for k in (1, 2)]
        >>> overall(rows)["J&F"]
        0.375
    """
    rows = list(rows)
    if not rows:
        return dict.fromkeys(FIGURES, float("nan"))
    return {name: float(np.mean([float(row[name]) for row in rows])) for name in FIGURES}


def _present(ids: NDArray[np.integer]) -> set[int]:
    """The ids in a map."""
    if ids.dtype == np.uint8:  # counting all 256 takes a tenth of the time that sorting the pixels would
        return set(np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist())
    return set(np.unique(ids).tolist())
