"""Looks into videos in processes that may crash.

`python -m vos_umec.data.probe` is that process; see `vos_umec.data.processes`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vos_umec.data.processes import ask_all, serve
from vos_umec.errors import DataError, VideoReadError
from vos_umec.io.folder import FolderSource
from vos_umec.io.frames import SourceFacts
from vos_umec.io.mask_like import is_flat, names_masks
from vos_umec.io.source import OpenedSource, open_source, open_unannounced

COPY_MARK = ".vos_umec_copy.json"
"""File that `prepare` writes into each copy: what it was made from, how, and the frame rate of the video."""

FACTS = tuple(field.name for field in fields(SourceFacts))

_SECONDS = 60.0  # time limit of one file, to which its size adds
_SECONDS_PER_BYTE = 1e-6  # a video is decoded to its end, at about a thousand frames a second
_NOISE = 3  # grey levels within which two pixels of a coded video are equal


def describe(path: str | Path) -> dict[str, Any]:
    """Open a video file or frame folder and list what an index keeps of it.

    Returns:
        The fields of `SourceFacts`; `step`, the most frequent difference between successive numbers in the frame
        names (1 for video files); `rate`, the frames per second, None where nothing tells them; `flat`, whether the
        frames consist of areas of one value, as masks do (of a video file only if its path names masks); and
        `plain`, whether they are indexed or grey, too. If the video cannot be used: `{"reason": str}`, with
        `"temporary": True` if only the permission to read is missing.
    """
    try:
        source = open_unannounced(Path(path))
        first = source.read([0])[0]
        flat = plain = False
        if isinstance(source, FolderSource):
            if not (source.path / COPY_MARK).exists():
                flat, plain = source.looks_like_masks()
        elif any(map(names_masks, Path(path).with_suffix("").parts)):
            flat = is_flat(first, _NOISE) and is_flat(source.read([len(source) // 2])[0], _NOISE)
    except DataError as error:
        reason = {"reason": str(error).removeprefix(f"cannot read {path}: ")}
        return {**reason, "temporary": True} if isinstance(error.__cause__, PermissionError) else reason
    facts = source.facts
    rate = _copied_rate(source.path) if facts.reader == "folder" else facts.fps
    return {**asdict(facts), "step": _usual_step(source.names), "rate": rate, "flat": flat, "plain": plain}


def describe_all(paths: Sequence[Path], processes: int, seconds: float = _SECONDS) -> Iterator[dict[str, Any]]:
    """Run `describe` on each path in processes that may crash, and yield the answers in order.

    A file has `seconds` of time, and more for its size; after that, the answer is a `reason`.
    """
    limits = [seconds + _SECONDS_PER_BYTE * (path.stat().st_size if path.exists() else 0) for path in paths]
    return ask_all("vos_umec.data.probe", [str(path) for path in paths], limits, processes)


def open_probed(path: str | Path) -> OpenedSource:
    """`open_source`, with the first look into a video file taken by another process.

    A file that makes a decoder crash, hang or take all memory then costs an error, not this process.

    Raises:
        VideoReadError: As `open_source`; also if the process crashed or took too long.
        DataError: As `open_source`.
    """
    path = Path(path)
    if not path.is_file():
        return open_source(path)
    (answer,) = describe_all([path], processes=1)
    if "reason" in answer:
        raise VideoReadError(path, answer["reason"])
    return open_source(path, SourceFacts(**{name: answer[name] for name in FACTS}))


def _usual_step(names: Sequence[str]) -> int:
    """Most frequent difference between successive numbers in frame names; 1 if they are not numbers."""
    if not all(name.isdecimal() for name in names) or len(names) < 2:
        return 1
    steps = [min(max(b - a, 0), 1000) for a, b in pairwise(map(int, names))]  # numbers may exceed an int64
    return max(1, int(np.bincount(steps).argmax()))


def _copied_rate(folder: Path) -> float | None:
    """Frames per second of the video that a folder is a copy of; None for other folders and for copies of such."""
    try:
        rate: float | None = json.loads((folder / COPY_MARK).read_text())["fps"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return rate


if __name__ == "__main__":
    serve(describe)
