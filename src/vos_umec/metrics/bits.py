"""Masks packed to 64 pixels a word, so that a few operations on words score a whole object."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
