"""Finds the videos below a folder by name alone; nothing is opened."""

import os
from collections.abc import Iterator
from pathlib import Path

from vos_umec.io.folder_source import PICTURE_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov",
     ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)  # fmt: skip


def find_videos(root: str | Path) -> Iterator[tuple[Path, list[int]]]:
    """List video files and frame folders, recursively, sorted within each folder.

    A folder of at least two images and no video file is one video and is not searched further. Hidden names and
    other files are ignored. So is a folder ``Annotations`` beside ``JPEGImages``: the masks there are images too,
    but labels. Links are followed, each folder once.

    Args:
        root: Folder to search; it may be a frame folder itself.

    Yields:
        The path, and a stamp that changes with the content: (time of change in ns, size in bytes) of a file, (time
        of change in ns, number of images) of a frame folder.

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
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:  # a link back up, or a second link to the same folder
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if entry.is_file()]
    videos = [entry for entry in files if Path(entry.name).suffix.lower() in VIDEO_SUFFIXES]
    images = sum(Path(entry.name).suffix.lower() in PICTURE_SUFFIXES for entry in files)
    if images >= 2 and not videos:  # beside videos they are thumbnails
        yield folder, [status.st_mtime_ns, images]
        return
    for entry in videos:
        yield folder / entry.name, [entry.stat().st_mtime_ns, entry.stat().st_size]
    labelled = any(entry.name == "JPEGImages" for entry in folders)
    for entry in folders:
        if not (labelled and entry.name == "Annotations"):
            yield from _search(folder / entry.name, seen)
