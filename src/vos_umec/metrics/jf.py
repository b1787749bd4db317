"""Region similarity J and boundary measure F, on masks packed to 64 pixels per word.

`jaccard` and `boundary_f` take boolean masks. The packed functions let one pass over a frame score many objects.

Source: Perazzi et al., "A benchmark dataset and evaluation methodology for video object segmentation", CVPR 2016.
The contours are those of the official DAVIS tool.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vos_umec.errors import ConfigError, MaskError

Bits = NDArray[np.uint64]

_BOOL = np.dtype(bool)
_WORD = 64


@dataclass(frozen=True)
class MaskPair:
    """The predicted and the true mask of one object, packed and cropped to where either of them is set.

    Pixel x of a row is bit x % 64 of word x // 64; bits beyond the image are 0.

    Attributes:
        bits: Prediction and truth, (2, h, w) words. One empty row above and below and one empty word on the left
            remain where the image has them.
        last: The bits of the image's last column, (w,) words; 0 if the crop does not contain that column.
    """

    bits: Bits
    last: Bits


def pack_pair(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> MaskPair:
    """Pack the two masks (H, W) bool of one object. The pair has no rows if both masks are empty."""
    H, W = prediction.shape
    packed = np.zeros((2, H, math.ceil(W / _WORD) * 8), dtype=np.uint8)
    for side, mask in zip(packed, (prediction, target), strict=True):
        side[:, : math.ceil(W / 8)] = np.packbits(mask, axis=1, bitorder="little")
    bits = packed.view("<u8")  # (2, H, words)
    last = np.zeros(bits.shape[2], dtype=np.uint64)
    last[-1] = 1 << (W - 1) % _WORD
    union = bits[0] | bits[1]
    y, word = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    if not len(y):
        return MaskPair(bits[:, :0], last)
    # A contour lies on the mask, or one pixel left of it or above it.
    window = slice(max(y[0] - 1, 0), y[-1] + 2), slice(max(word[0] - 1, 0), word[-1] + 1)
    return MaskPair(np.ascontiguousarray(bits[:, *window]), last[window[1]])


def count(bits: Bits) -> NDArray[np.int64]:
    """Number of set pixels (...,) of packed masks (..., h, w)."""
    pixels: NDArray[np.int64] = np.bitwise_count(bits).sum(axis=(-2, -1), dtype=np.int64)
    return pixels


def shift(bits: Bits, right: int) -> Bits:
    """Shift packed masks (..., w) to the right by 1 to 63 pixels, or to the left by -1 to -63.

    Pixels that leave are lost, and 0 enters. Pixels may enter the unused bits of the last word.
    """
    if right > 0:
        moved: Bits = bits << np.uint64(right)
        moved[..., 1:] |= bits[..., :-1] >> np.uint64(_WORD - right)
    else:
        moved = bits >> np.uint64(-right)
        moved[..., :-1] |= bits[..., 1:] << np.uint64(_WORD + right)
    return moved


def disk(bits: Bits, radius: int) -> Bits:
    """Dilate packed masks (..., h, w) by a disk: set all pixels at most `radius` >= 0 pixels away from a set one.

    A disk is a stack of row segments, and each segment is grown from the next shorter one.

    Example:
        >>> dot = np.array([[0], [0], [1 << 4], [0]], dtype=np.uint64)
        >>> [f"{int(row):09b}" for row in disk(dot, 2)[:, 0]]
        ['000010000', '000111000', '001111100', '000111000']
    """
    # Spare words separate the rows, so that one shift can process all of them as one long row.
    spare = np.zeros((*bits.shape[:-1], radius // _WORD + 1), dtype=np.uint64)
    segment = np.concatenate([bits, spare], axis=-1)  # all pixels at most `reach` left or right of a set one
    near, reach = np.zeros_like(segment), 0
    for dy in range(radius, -1, -1):
        while (missing := math.isqrt(radius * radius - dy * dy) - reach) > 0:
            step = min(missing, 2 * reach + 1, _WORD - 1)  # a longer step would leave a gap in the middle
            row = segment.ravel()
            segment = (row | shift(row, step) | shift(row, -step)).reshape(segment.shape)
            reach += step
        rows = max(segment.shape[-2] - dy, 0)
        near[..., dy:, :] |= segment[..., :rows, :]
        near[..., :rows, :] |= segment[..., dy:, :]
    return near[..., : bits.shape[-1]]


def contour(pair: MaskPair) -> Bits:
    """Contours (2, h, w) of a pair, 1 pixel wide: pixels that differ from their right, lower or diagonal neighbour.

    An object cut by the border of the image has no contour along the border.
    """
    here = pair.bits
    right = shift(here, -1) | (here & pair.last)
    edges: Bits = (here ^ right) | (here ^ _below(here)) | (here ^ _below(right))
    return edges


def match_radius(size: tuple[int, ...], tolerance: float = 0.008) -> int:
    """Largest distance in pixels at which two contour pixels match; rounded up, for an image of `size` (H, W)."""
    return math.ceil(tolerance * math.hypot(*size))


def pair_jaccard(pair: MaskPair) -> float:
    """Region similarity J of one packed pair, in [0, 1]; 1 if both masks are empty."""
    mask, truth = pair.bits
    union = int(count(mask | truth))
    return int(count(mask & truth)) / union if union else 1.0


def pair_f(pair: MaskPair, radius: int) -> float:
    """Boundary measure F of one packed pair, in [0, 1]; 1 if neither mask has a contour, 0 if only one has.

    `radius` is the largest distance of a match in pixels, >= 0.
    """
    if np.array_equal(*pair.bits):
        return 1.0
    contours = contour(pair)  # (2, h, w)
    lengths = count(contours)  # (2,)
    if not lengths.all():
        return float(lengths[0] == lengths[1])
    precision, recall = (count(contours & disk(contours, radius)[::-1]) / lengths).tolist()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def jaccard(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Region similarity J, intersection over union, of each mask.

    Args:
        prediction: Masks, (T, H, W) bool, of one object over T frames, or of T objects in one frame.
        target: Ground truth, (T, H, W) bool.

    Returns:
        (T,) in [0, 1]; 1 where both masks are empty.

    Raises:
        MaskError: The arguments are not boolean and (T, H, W) of one shape.

    Example:
        >>> prediction = np.array([[[1, 1, 0]], [[0, 0, 0]]], dtype=bool)
        >>> target = np.array([[[0, 1, 1]], [[0, 0, 0]]], dtype=bool)
        >>> jaccard(prediction, target).round(3).tolist()
        [0.333, 1.0]
    """
    _require_stacks(prediction, target)
    pairs = zip(prediction, target, strict=True)
    return np.array([pair_jaccard(pack_pair(mask, truth)) for mask, truth in pairs], dtype=np.float64)  # (T,)


def boundary_f(
    prediction: NDArray[np.bool_], target: NDArray[np.bool_], tolerance: float = 0.008
) -> NDArray[np.float64]:
    """Boundary measure F of each mask: the harmonic mean of the precision and the recall of its contour.

    A contour pixel is matched if the other contour has a pixel within a Euclidean distance of
    `ceil(tolerance * diagonal)` pixels (8 at 480 x 854).

    Args:
        prediction: Masks, (T, H, W) bool, as for `jaccard`.
        target: Ground truth, (T, H, W) bool.
        tolerance: Largest distance of a match, as a fraction of the image diagonal, >= 0.

    Returns:
        (T,) in [0, 1]; 1 where neither mask has a contour, 0 where only one has.

    Raises:
        MaskError: The arguments are not boolean and (T, H, W) of one shape.
        ConfigError: The tolerance is negative.

    Example:
        >>> target = np.zeros((1, 100, 100), dtype=bool)
        >>> target[0, 20:60, 20:60] = True
        >>> near, far = np.roll(target, 2, axis=2), np.roll(target, 9, axis=2)
        >>> boundary_f(near, target).tolist(), boundary_f(far, target).round(2).tolist()
        ([1.0], [0.45])
    """
    _require_stacks(prediction, target)
    if tolerance < 0:
        raise ConfigError(f"tolerance is {tolerance}: expected a fraction of the image diagonal, such as 0.008")
    radius = match_radius(prediction.shape[1:], tolerance)
    pairs = zip(prediction, target, strict=True)
    return np.array([pair_f(pack_pair(mask, truth), radius) for mask, truth in pairs], dtype=np.float64)  # (T,)


def _below(bits: Bits) -> Bits:
    """The row below each row; the last row is its own."""
    return np.concatenate([bits[..., 1:, :], bits[..., -1:, :]], axis=-2)


def _require_stacks(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> None:
    if prediction.ndim != 3 or prediction.shape != target.shape or {prediction.dtype, target.dtype} != {_BOOL}:
        raise MaskError(
            f"prediction is {prediction.shape} {prediction.dtype}, target is {target.shape} {target.dtype}: "
            "expected two boolean arrays (T, H, W) of one shape; compare id maps with one id first (ids == 1)"
        )
