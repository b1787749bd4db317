"""Finds the videos below a folder by name alone; nothing is opened."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vos_umec.io.folder_source import PICTURE_SUFFIXES

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov",
     ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)  # fmt: skip


def find_videos(root: str | Path) -> Iterator[tuple[Path, list[int]]]:
    """List video files and frame folders, recursively, sorted within each folder.

    A folder of at least two images and no video file is one video and is not searched further. Hidden names and
    other files are ignored. So is a folder ``Annotations...`` beside ``JPEGImages``: the masks there are images
    too, but labels. Links are followed, each folder once. What may not be read is left out with a warning.

    Args:
        root: Folder to search; it may be a frame folder itself.

    Yields:
        The path, and a stamp that changes with the content: (time of change in ns, size in bytes) of a file, (last
        time of change in ns, number of images, their size in bytes) of a frame folder.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "holiday").mkdir()
        >>> for name in ("holiday/sea.mp4", "holiday/notes.txt", ".hidden.mp4"):
        ...     _ = (root / name).write_bytes(b"")
        >>> [path.name for path, stamp in find_videos(root)]
        ['sea.mp4']
    """
    yield from _search(Path(root), seen=set())


def _search(folder: Path, seen: set[tuple[int, int]]) -> Iterator[tuple[Path, list[int]]]:
    try:
        status = folder.stat()
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        log.warning("%s is left out: %s", folder, error.strerror)
        return
    if (status.st_dev, status.st_ino) in seen:  # a link back up, or a second link to the same folder
        return
    seen.add((status.st_dev, status.st_ino))
    entries.sort(key=lambda entry: entry.name)
    folders = [entry for entry in entries if _is(entry.is_dir)]
    files = [entry for entry in entries if _is(entry.is_file)]
    videos = [entry for entry in files if Path(entry.name).suffix.lower() in VIDEO_SUFFIXES]
    images = [entry.stat() for entry in files if Path(entry.name).suffix.lower() in PICTURE_SUFFIXES]
    if len(images) >= 2 and not videos:  # beside videos they are thumbnails
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
    """False also for a link that leads in a circle, or to where one may not look."""
    try:
        return kind()
    except OSError:
        return False
