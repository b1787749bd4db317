"""Looks into video files and frame folders, in processes that may crash: ``python -m vos_umec.data.probe``."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vos_umec.data.processes import ask_all, serve
from vos_umec.errors import DataError
from vos_umec.io.source import open_source

_SECONDS = 60.0  # for one file, and on top of that
_SECONDS_PER_BYTE = 1e-6  # videos are decoded to their end, at a thousand frames a second or so
_SHORTEST_SIDE = 16  # pixels; less is a test picture or a placeholder


def describe(path: str | Path) -> dict[str, Any]:
    """Open a video or frame folder and say what is in it.

    Args:
        path: Video file or folder of frames.

    Returns:
        The fields of :class:`~vos_umec.io.frames.SourceFacts` and ``step``, the usual distance of the numbers in
        its frames' names (1 for videos); or ``{"reason": str}`` if it cannot be used, with ``"passing"`` beside
        it if that is for want of rights.

    Example:
        >>> describe("no/such/file.mp4")
        {'reason': 'there is no such file; check the path'}
    """
    try:
        source = open_source(path)
        if len(source) < 2:
            return {"reason": "it has a single frame, a video needs two"}
        if min(source.size) < _SHORTEST_SIDE:
            return {"reason": f"its frames are {source.size} (H, W), a side needs {_SHORTEST_SIDE} pixels"}
        source.read([0])
    except DataError as error:
        reason = {"reason": str(error).removeprefix(f"cannot read {path}: ")}
        return {**reason, "passing": True} if isinstance(error.__cause__, PermissionError) else reason
    return {**asdict(source.facts), "step": _usual_step(source.names)}


def describe_all(paths: Sequence[Path], processes: int, seconds: float = _SECONDS) -> Iterator[dict[str, Any]]:
    """Run :func:`describe` on many paths, each within a time limit, in processes that may crash.

    Args:
        paths: Videos and frame folders.
        processes: How many to look into at once.
        seconds: Time limit of one file, to which its size adds; past it, the answer is a ``reason``.

    Yields:
        The answer for each path, in order.

    Raises:
        VosUmecError: The process does not start.

    Example:
        >>> [answer.keys() for answer in describe_all([Path("no/such/file.mp4")], processes=1)]
        [dict_keys(['reason'])]
    """
    limits = [seconds + _SECONDS_PER_BYTE * (path.stat().st_size if path.exists() else 0) for path in paths]
    return ask_all("vos_umec.data.probe", [str(path) for path in paths], limits, processes)


def _usual_step(names: Sequence[str]) -> int:
    """Most frequent distance of successive numbers in frame names; 1 if they are no numbers."""
    if not all(name.isdecimal() for name in names):
        return 1
    steps = [min(max(b - a, 0), 1000) for a, b in pairwise(map(int, names))]  # names may be longer than an int64
    return max(1, int(np.bincount(steps).argmax()))


if __name__ == "__main__":
    serve(describe)
