"""Region similarity J."""

import numpy as np
from numpy.typing import NDArray

from vos_umec.errors import MaskError
from vos_umec.metrics.bits import MaskPair, count, pack_pair


def jaccard(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Region similarity J, intersection over union, of each mask.

    Args:
        prediction: Masks of one object, (T, H, W) bool; the first axis may as well run over objects.
        target: Ground truth, (T, H, W) bool.

    Returns:
        (T,) in [0, 1]; 1 where both masks are empty.

    Raises:
        MaskError: The two are not boolean stacks of one shape.

    Source:
        METHOD section 6; Perazzi et al. 2016, "A benchmark dataset and evaluation methodology for VOS".

    Example:
        >>> prediction = np.array([[[1, 1, 0]], [[0, 0, 0]]], dtype=bool)
        >>> target = np.array([[[0, 1, 1]], [[0, 0, 0]]], dtype=bool)
        >>> jaccard(prediction, target).round(3).tolist()
        [0.333, 1.0]
    """
    require_stacks(prediction, target)
    pairs = zip(prediction, target, strict=True)
    return np.array([pair_jaccard(pack_pair(mask, truth)) for mask, truth in pairs], dtype=np.float64)  # (T,)


def pair_jaccard(pair: MaskPair) -> float:
    """Region similarity J of one packed pair.

    Args:
        pair: Prediction and truth of one object.

    Returns:
        J in [0, 1]; 1 where both masks are empty.

    Example:
        >>> masks = np.array([[[1, 1, 0]], [[0, 1, 1]]], dtype=bool)
        >>> round(pair_jaccard(pack_pair(*masks)), 3)
        0.333
    """
    mask, truth = pair.bits
    union = int(count(mask | truth))
    return int(count(mask & truth)) / union if union else 1.0


def require_stacks(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> None:
    """Refuse anything but two boolean stacks of masks of one shape.

    Args:
        prediction: Should be (T, H, W) bool.
        target: Should be (T, H, W) bool.

    Raises:
        MaskError: They are not.

    Example:
        >>> require_stacks(np.zeros((2, 4, 4), bool), np.zeros((2, 4, 5), bool))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.MaskError: prediction is (2, 4, 4) bool, target is (2, 4, 5) bool: expected two ...
    """
    if prediction.ndim != 3 or prediction.shape != target.shape or {prediction.dtype, target.dtype} != {_BOOL}:
        raise MaskError(
            f"prediction is {prediction.shape} {prediction.dtype}, target is {target.shape} {target.dtype}: "
            "expected two boolean arrays (T, H, W) of one shape; compare id maps with one id first (ids == 1)"
        )


_BOOL = np.dtype(bool)
