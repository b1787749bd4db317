"""Mean, recall and decay of a measure over the frames of one object."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vos_umec.errors import DataError


class Statistics(NamedTuple):
    """The three figures DAVIS gives for a measure.

    Attributes:
        mean: Mean over the frames.
        recall: Share of the frames strictly above 0.5.
        decay: Mean of the first quarter of the frames minus mean of the last; negative where it improves.

    Example:
        >>> Statistics(mean=0.7, recall=1.0, decay=0.1).recall
        1.0
    """

    mean: float
    recall: float
    decay: float


def mean_recall_decay(values: ArrayLike) -> Statistics:
    """Mean, recall and decay of the values of one object.

    The quarters share their border frames, as in the official tool. That tool keeps the borders in 8 bits,
    so from 257 frames on its decay is wrong; this one is not.

    Args:
        values: J or F of each scored frame in order, (T,), T >= 1.

    Returns:
        Mean, recall and decay.

    Raises:
        DataError: There are no values.

    Source:
        METHOD section 6; Perazzi et al. 2016.

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
