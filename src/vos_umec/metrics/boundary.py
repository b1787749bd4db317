"""Boundary measure F: how well two contours match within a small distance."""

import math

import numpy as np
from numpy.typing import NDArray

from vos_umec.errors import ConfigError
from vos_umec.metrics.jaccard import require_stacks


def boundary_f(
    prediction: NDArray[np.bool_], target: NDArray[np.bool_], tolerance: float = 0.008
) -> NDArray[np.float64]:
    """Boundary measure F of each mask: harmonic mean of the contours' precision and recall.

    A contour pixel counts as matched when the other contour has a pixel within a Euclidean distance of
    ``ceil(tolerance * diagonal)`` pixels (8 at 480 x 854), which is what dilation by a disk of that radius
    tests. Instead of dilating, the few contour pixels look up row-wise counts of the other contour.

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
    _, H, W = prediction.shape
    radius = math.ceil(tolerance * math.hypot(H, W))
    pairs = zip(prediction, target, strict=True)
    return np.array([_frame_f(mask, truth, radius) for mask, truth in pairs], dtype=np.float64)  # (T,)


def contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Contour of a mask, one pixel wide: where a pixel differs from its right, lower or diagonal neighbour.

    The image continues beyond its border as it ends there, so an object cut by the border has no contour
    along it.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool.

    Example:
        >>> print(contour(np.array([[0, 0, 0], [0, 1, 1], [0, 1, 1]], dtype=bool)).astype(int))
        [[1 1 1]
         [1 0 0]
         [1 0 0]]
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")  # (H + 1, W + 1)
    edge: NDArray[np.bool_] = (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])
    return edge


def _frame_f(mask: NDArray[np.bool_], truth: NDArray[np.bool_], radius: int) -> float:
    """F of one pair of masks, (H, W) each, with a match up to ``radius`` pixels away."""
    union = mask | truth
    if not union.any():
        return 1.0
    window = _bounding_box(union)
    mask_contour, truth_contour = contour(mask[window]), contour(truth[window])
    n_mask, n_truth = np.count_nonzero(mask_contour), np.count_nonzero(truth_contour)
    if n_mask == 0 or n_truth == 0:
        return 1.0 if n_mask == n_truth else 0.0
    precision = _count_near(mask_contour, truth_contour, radius) / n_mask
    recall = _count_near(truth_contour, mask_contour, radius) / n_truth
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Smallest window that holds the mask and one pixel around it, where its contour may lie."""
    y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(max(y[0] - 1, 0), y[-1] + 2), slice(max(x[0] - 1, 0), x[-1] + 2)


def _count_near(points: NDArray[np.bool_], others: NDArray[np.bool_], radius: int) -> int:
    """Number of pixels of ``points`` (H, W) with a pixel of ``others`` (H, W) at most ``radius`` away."""
    H, W = others.shape
    # before[y + radius, x + radius] = pixels of `others` in row y, left of column x; far columns repeat.
    before = np.zeros((H + 2 * radius, W + 2 * radius + 1), dtype=np.int32)
    np.cumsum(others, axis=1, out=before[radius : radius + H, radius + 1 : radius + 1 + W])
    before[radius : radius + H, radius + 1 + W :] = before[radius : radius + H, radius + W, None]
    width = before.shape[1]
    counts = before.ravel()
    y, x = np.divmod(np.flatnonzero(points), W)
    left = (y + radius) * width + x + radius  # (P,) flat place of each point in `before`
    total = len(left)
    for dy in sorted(range(-radius, radius + 1), key=abs):  # nearest rows first: most points end there
        reach = math.isqrt(radius * radius - dy * dy)  # the disk's half width in that row
        row = left + dy * width
        left = left[counts[row + reach + 1] == counts[row - reach]]
        if not len(left):
            break
    return total - len(left)
