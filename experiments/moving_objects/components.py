"""Connected components of label maps in space and time."""

import numpy as np
from numpy.typing import NDArray


def connected(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number the connected parts of equal label; neighbours share a face, in space or in time.

    Args:
        labels: (T, h, w).

    Returns:
        (T, h, w) numbers of parts, from 0 on without gaps.

    Example:
        >>> connected(np.array([[[0, 0, 1, 0]]], np.uint8)).tolist()
        [[[0, 0, 1, 2]]]
    """
    flat = np.arange(labels.size, dtype=np.int64)  # each cell points to a cell of its part, in the end to the first
    pairs = []
    for axis in range(labels.ndim):
        first = flat.reshape(labels.shape).take(range(labels.shape[axis] - 1), axis)
        second = flat.reshape(labels.shape).take(range(1, labels.shape[axis]), axis)
        same = labels.flat[first.ravel()] == labels.flat[second.ravel()]
        pairs.append(np.stack((first.ravel()[same], second.ravel()[same])))
    a, b = np.concatenate(pairs, axis=1)
    while True:
        low, high = np.minimum(flat[a], flat[b]), np.maximum(flat[a], flat[b])
        open_ = low != high
        if not open_.any():
            break
        a, b = a[open_], b[open_]
        np.minimum.at(flat, high[open_], low[open_])
        while (flat[flat] != flat).any():
            flat = flat[flat]
    return np.unique(flat, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)
