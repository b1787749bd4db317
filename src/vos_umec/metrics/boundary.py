"""Boundary measure F: how well two contours match within a small distance."""

import math

import numpy as np
from numpy.typing import NDArray

from vos_umec.errors import ConfigError
from vos_umec.metrics.bits import Bits, MaskPair, count, disk, pack_pair, shift
from vos_umec.metrics.jaccard import require_stacks


def boundary_f(
    prediction: NDArray[np.bool_], target: NDArray[np.bool_], tolerance: float = 0.008
) -> NDArray[np.float64]:
    """Boundary measure F of each mask: harmonic mean of the contours' precision and recall.

    A contour pixel counts as matched when the other contour has a pixel within a Euclidean distance of
    ``ceil(tolerance * diagonal)`` pixels (8 at 480 x 854), which is what dilation by a disk of that radius
    tests.

    Args:
        prediction: Masks of one object, (T, H, W) bool; the first axis may as well run over objects.
        target: Ground truth, (T, H, W) bool.
        tolerance: Largest distance of a match, as a share of the image diagonal, >= 0.

    Returns:
        (T,) in [0, 1]; 1 where neither mask has a contour, 0 where only one has.

    Raises:
        MaskError: The two are not boolean stacks of one shape.
        ConfigError: The tolerance is negative.

    Source:
        METHOD section 6; Perazzi et al. 2016, with the contour definition of the official DAVIS tool.

    Example:
        >>> target = np.zeros((1, 100, 100), dtype=bool)
        >>> target[0, 20:60, 20:60] = True
        >>> near, far = np.roll(target, 2, axis=2), np.roll(target, 9, axis=2)
        >>> boundary_f(near, target).tolist(), boundary_f(far, target).round(2).tolist()
        ([1.0], [0.45])
    """
    require_stacks(prediction, target)
    if tolerance < 0:
        raise ConfigError(f"tolerance is {tolerance}: expected a share of the image diagonal, such as 0.008")
    radius = match_radius(prediction.shape[1:], tolerance)
    pairs = zip(prediction, target, strict=True)
    return np.array([pair_f(pack_pair(mask, truth), radius) for mask, truth in pairs], dtype=np.float64)  # (T,)


def match_radius(size: tuple[int, ...], tolerance: float = 0.008) -> int:
    """Largest distance at which two contour pixels match.

    Args:
        size: (H, W) of the image.
        tolerance: Share of the image diagonal, >= 0.

    Returns:
        Pixels, rounded up.

    Example:
        >>> match_radius((480, 854))
        8
    """
    return math.ceil(tolerance * math.hypot(*size))


def pair_f(pair: MaskPair, radius: int) -> float:
    """Boundary measure F of one packed pair.

    Args:
        pair: Prediction and truth of one object.
        radius: Largest distance of a match in pixels, >= 0.

    Returns:
        F in [0, 1]; 1 where neither mask has a contour, 0 where only one has.

    Example:
        >>> mask = np.zeros((40, 60), dtype=bool)
        >>> mask[10:20, 10:20] = True
        >>> pair_f(pack_pair(mask, np.roll(mask, 1, axis=1)), radius=1)
        1.0
    """
    if np.array_equal(*pair.bits):
        return 1.0
    contours = contour(pair)  # (2, h, w)
    lengths = count(contours)  # (2,)
    if not lengths.all():
        return float(lengths[0] == lengths[1])
    precision, recall = (count(contours & disk(contours, radius)[::-1]) / lengths).tolist()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(pair: MaskPair) -> Bits:
    """Contours of two masks, one pixel wide: where a pixel differs from its right, lower or diagonal neighbour.

    The image continues beyond its border as it ends there, so an object cut by the border has no contour
    along it.

    Args:
        pair: Prediction and truth of one object.

    Returns:
        (2, h, w) words, as in the pair.

    Example:
        >>> mask = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 1]], dtype=bool)
        >>> for row in contour(pack_pair(mask, mask))[0, :, 0]:
        ...     print(f"{int(row):03b}"[::-1])  # the lowest bit is the leftmost pixel
        111
        100
        100
    """
    here = pair.bits
    right = shift(here, -1) | (here & pair.last)
    edges: Bits = (here ^ right) | (here ^ _below(here)) | (here ^ _below(right))
    return edges


def _below(bits: Bits) -> Bits:
    """What each pixel has under it; the last row has itself."""
    return np.concatenate([bits[..., 1:, :], bits[..., -1:, :]], axis=-2)
