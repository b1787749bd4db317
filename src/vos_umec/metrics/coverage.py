"""How well pseudo segments could cover an object: the best union of them, for looking at a clustering."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vos_umec.io.masks import read_mask

VOID = 255


def best_union(segments: NDArray[np.integer], mask: NDArray[np.bool_]) -> float:
    """The IoU of an object with that union of segments which covers it best.

    A segment belongs into the best union if more of it lies inside per pixel outside than the union's own ratio
    asks; so the best union is a prefix of the segments sorted by that ratio, and all prefixes are tried.

    Args:
        segments: (T, H, W) segment numbers, 0 to 254.
        mask: (T, H, W) where the object is, at least one pixel.

    Returns:
        Intersection over union in space and time, 0 to 1.

    Example:
        >>> segments = np.array([[[0, 0, 1, 1, 2, 2]]])
        >>> best_union(segments, np.array([[[True, True, True, False, False, False]]]))
        0.75
    """
    inside = np.bincount(segments[mask], minlength=VOID).astype(float)
    outside = np.bincount(segments[~mask], minlength=VOID).astype(float)
    order = np.argsort(outside / np.maximum(inside, 1e-9))  # most inside a pixel outside first
    union = mask.sum() + np.cumsum(outside[order])
    return float((np.cumsum(inside[order]) / union).max())


def covered_objects(segments: NDArray[np.integer], annotations: Sequence[Path]) -> dict[int, float]:
    """`best_union` of every object of a video's annotated frames.

    Args:
        segments: (T, H, W) segment numbers.
        annotations: T indexed PNGs of the same frames, of any size; 0 and 255 are no objects.

    Returns:
        By object, in order.

    Raises:
        MaskError: If a mask cannot be read.
    """
    size = segments.shape[1:]
    ids = np.stack([_resized(read_mask(path), size) for path in annotations])  # (T, H, W)
    found = {}
    for i in sorted(set(np.unique(ids).tolist()) - {0, VOID}):
        found[int(i)] = best_union(segments, ids == i)
    return found


def _resized(ids: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """The nearest pixel of each pixel of another size."""
    rows, columns = (
        ((np.arange(n) + 0.5) * old / n).astype(np.int64) for n, old in zip(size, ids.shape, strict=True)
    )
    nearest: NDArray[np.uint8] = ids[rows[:, None], columns]
    return nearest
