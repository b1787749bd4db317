"""Masks packed to 64 pixels a word, so that a few operations on words score a whole object."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vos_umec.errors import ConfigError, MaskError

Bits = NDArray[np.uint64]

_WORD = 64


@dataclass(frozen=True)
class MaskPair:
    """The predicted and the true mask of one object, packed and cut to where either of them is.

    Pixel x of a row is bit x % 64 of word x // 64; bits beyond the image are 0.

    Attributes:
        bits: Prediction and truth, (2, h, w) words; a frame of one empty pixel around the object where the
            image has room for it, and whole words.
        last: The bits of the image's last column, (w,) words, 0 where the cut leaves that column out.

    Example:
        >>> mask = np.zeros((480, 854), dtype=bool)
        >>> mask[100:200, 300:400] = True
        >>> pair = pack_pair(mask, ~mask)
        >>> pair.bits.shape, count(pair.bits).tolist()
        ((2, 480, 14), [10000, 399920])
    """

    bits: Bits
    last: Bits


def pack_pair(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> MaskPair:
    """Pack the two masks of one object.

    Args:
        prediction: (H, W) bool.
        target: (H, W) bool.

    Returns:
        The pair; no rows at all where both masks are empty.

    Example:
        >>> empty = np.zeros((480, 854), dtype=bool)
        >>> pack_pair(empty, empty).bits.shape
        (2, 0, 14)
    """
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
    # A contour lies on the mask, or one pixel left of it or above.
    window = slice(max(y[0] - 1, 0), y[-1] + 2), slice(max(word[0] - 1, 0), word[-1] + 1)
    return MaskPair(np.ascontiguousarray(bits[:, *window]), last[window[1]])


def count(bits: Bits) -> NDArray[np.int64]:
    """Number of set pixels of each packed mask.

    Args:
        bits: (..., h, w) words.

    Returns:
        (...,) pixels.

    Example:
        >>> count(np.array([[[3, 1]]], dtype=np.uint64)).tolist()
        [3]
    """
    pixels: NDArray[np.int64] = np.bitwise_count(bits).sum(axis=(-2, -1), dtype=np.int64)
    return pixels


def shift(bits: Bits, right: int) -> Bits:
    """Move packed masks sideways; what leaves is lost, and 0 comes in.

    Args:
        bits: (..., w) words.
        right: Pixels towards higher x, 1 to 63, or -1 to -63 towards lower x.

    Returns:
        (..., w) words. Pixels may pass beyond the image's last column, into the unused bits of the last word.

    Example:
        >>> shift(np.array([1 << 63, 0], dtype=np.uint64), 1).tolist()
        [0, 1]
    """
    if right > 0:
        moved: Bits = bits << np.uint64(right)
        moved[..., 1:] |= bits[..., :-1] >> np.uint64(_WORD - right)
    else:
        moved = bits >> np.uint64(-right)
        moved[..., :-1] |= bits[..., 1:] << np.uint64(_WORD + right)
    return moved


def disk(bits: Bits, radius: int) -> Bits:
    """Dilate packed masks by a disk: all pixels at most ``radius`` away from a set one.

    The disk is a stack of row segments, and a segment is grown from the next shorter one.

    Args:
        bits: (..., h, w) words.
        radius: Largest Euclidean distance in pixels, >= 0.

    Returns:
        (..., h, w) words.

    Example:
        >>> dot = np.array([[0], [0], [1 << 4], [0]], dtype=np.uint64)
        >>> [f"{int(row):09b}" for row in disk(dot, 2)[:, 0]]
        ['000010000', '000111000', '001111100', '000111000']
    """
    # Spare words keep rows apart, so that a shift can run over all of them as if they were one long row.
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
