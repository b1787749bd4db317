"""Run lengths of masks as COCO writes them (Lin et al., 2014): columns first, beginning with the background."""

from typing import Any

import numpy as np
import numpy.typing as npt

from vos_umec.errors import MaskError

Mask = npt.NDArray[np.bool_]


def encode_rle(mask: Mask) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed run lengths, {"size": [H, W], "counts": text}.

    Each run is stored as its difference from the run before the last one, in groups of five bits, the lowest first;
    the sixth bit says that another group follows.

    Example:
        >>> encode_rle(np.array([[False, True], [False, True]]))
        {'size': [2, 2], 'counts': '22'}
    """
    column = mask.T.ravel()
    changes = np.flatnonzero(np.diff(column, prepend=False))
    runs = np.diff(changes, prepend=0, append=len(column)).tolist()
    text = []
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text.append(chr(48 + (group | 32 * more)))
    return {"size": list(mask.shape), "counts": "".join(text)}


def decode_rle(rle: Any) -> Mask:
    """The mask (H, W) of COCO's run lengths, compressed (a text) or not (a list of numbers).

    Raises:
        MaskError: They are no run lengths, or do not add up to the size.
    """
    try:
        H, W = (int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = _runs(counts) if isinstance(counts, str) else [int(run) for run in counts]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MaskError(f"these are no COCO run lengths ({error!r}): expected a size and counts") from error
    if min([H, W, *runs], default=0) < 0 or sum(runs) != H * W or H * W > 2**26:
        raise MaskError(f"the run lengths add up to {sum(runs)} pixels where the size is {H} x {W}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(W, H).T


def _runs(text: str) -> list[int]:
    runs: list[int] = []
    groups = [ord(letter) - 48 for letter in text]
    at = 0
    while at < len(groups):
        value, shift, more = 0, 0, True
        while more:
            group = groups[at]
            value |= (group & 31) << shift
            more, shift, at = bool(group & 32), shift + 5, at + 1
        if group & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
