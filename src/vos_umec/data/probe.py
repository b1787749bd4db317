"""Finds the videos below a folder, and looks into each one in a process that may crash.

`python -m vos_umec.data.probe` is that process; see `vos_umec.data.processes`.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vos_umec.data.processes import ask_all, serve
from vos_umec.errors import DataError
from vos_umec.io.folder import PICTURE_SUFFIXES
from vos_umec.io.source import open_source

log = logging.getLogger(__name__)

COPY_MARK = ".vos_umec_copy.json"
"""File that `prepare` writes into each copy: what it was made from, how, and the frame rate of the video."""

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov",
     ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)  # fmt: skip
_SECONDS = 60.0  # time limit of one file, to which its size adds
_SECONDS_PER_BYTE = 1e-6  # a video is decoded to its end, at about a thousand frames a second
_SHORTEST_SIDE = 16  # pixels; smaller pictures are test pictures or placeholders


def find_videos(root: str | Path) -> Iterator[tuple[Path, list[int]]]:
    """List video files and frame folders by their names, recursively, sorted within each folder.

    A folder with at least two images and no video file is one video; its subfolders are not searched. Hidden names
    and other files are ignored, and so are folders `Annotations...` beside `JPEGImages`: their images are labels.
    Links are followed, each folder once. What cannot be read is skipped with a warning.

    Yields:
        The path, and a stamp that changes with the content: (time of change in ns, size in bytes) of a file, (last
        time of change in ns, number of images, their size in bytes) of a frame folder.
    """
    yield from _search(Path(root), seen=set())


def _search(folder: Path, seen: set[tuple[int, int]]) -> Iterator[tuple[Path, list[int]]]:
    try:
        status = folder.stat()
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        log.warning("%s is skipped: %s", folder, error.strerror)
        return
    if (status.st_dev, status.st_ino) in seen:  # a link to a parent folder, or a second link to the same folder
        return
    seen.add((status.st_dev, status.st_ino))
    entries.sort(key=lambda entry: entry.name)
    folders = [entry for entry in entries if _is(entry.is_dir)]
    files = [entry for entry in entries if _is(entry.is_file)]
    videos = [entry for entry in files if Path(entry.name).suffix.lower() in VIDEO_SUFFIXES]
    images = [entry.stat() for entry in files if Path(entry.name).suffix.lower() in PICTURE_SUFFIXES]
    if len(images) >= 2 and not videos:  # images beside videos are thumbnails
        changed = max(status.st_mtime_ns, *(image.st_mtime_ns for image in images))
        yield folder, [changed, len(images), sum(image.st_size for image in images)]
        return
    for entry in videos:
        yield folder / entry.name, [entry.stat().st_mtime_ns, entry.stat().st_size]
    labelled = any(entry.name == "JPEGImages" for entry in folders)
    for entry in folders:
        if not (labelled and entry.name.startswith("Annotations")):
            yield from _search(folder / entry.name, seen)


def _is(kind: Callable[[], bool]) -> bool:
    """The answer of `kind`; False for a link that leads in a circle or to a folder without permission."""
    try:
        return kind()
    except OSError:
        return False


def describe(path: str | Path) -> dict[str, Any]:
    """Open a video file or frame folder and list what an index keeps of it.

    Returns:
        The fields of `SourceFacts`; `step`, the most frequent difference between successive numbers in the frame
        names (1 for video files); and `rate`, the frames per second, None where nothing tells them. If the video
        cannot be used: `{"reason": str}`, with `"temporary": True` if only the permission to read is missing.
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
        return {**reason, "temporary": True} if isinstance(error.__cause__, PermissionError) else reason
    facts = source.facts
    rate = _copied_rate(source.path) if facts.reader == "folder" else facts.fps
    return {**asdict(facts), "step": _usual_step(source.names), "rate": rate}


def describe_all(paths: Sequence[Path], processes: int, seconds: float = _SECONDS) -> Iterator[dict[str, Any]]:
    """Run `describe` on each path in processes that may crash, and yield the answers in order.

    A file has `seconds` of time, and more for its size; after that, the answer is a `reason`.
    """
    limits = [seconds + _SECONDS_PER_BYTE * (path.stat().st_size if path.exists() else 0) for path in paths]
    return ask_all("vos_umec.data.probe", [str(path) for path in paths], limits, processes)


def _usual_step(names: Sequence[str]) -> int:
    """Most frequent difference between successive numbers in frame names; 1 if they are not numbers."""
    if not all(name.isdecimal() for name in names):
        return 1
    steps = [min(max(b - a, 0), 1000) for a, b in pairwise(map(int, names))]  # numbers may exceed an int64
    return max(1, int(np.bincount(steps).argmax()))


def _copied_rate(folder: Path) -> float | None:
    """Frames per second of the video that a folder is a copy of; None for other folders and for copies of such."""
    try:
        rate: float | None = json.loads((folder / COPY_MARK).read_text())["fps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rate


if __name__ == "__main__":
    serve(describe)
