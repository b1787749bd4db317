"""Finds the videos below a folder by their names, and counts what looks like a picture or a video and is none."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vos_umec.io.endings import PICTURE_SUFFIXES, VIDEO_SUFFIXES, ending, passed_over
from vos_umec.io.mask_like import names_masks

log = logging.getLogger(__name__)

_UNREAD = "not read by this program"
_ALONE = "a single picture, or beside a video or a folder"
_BELOW = "below a folder of frames"
_MASKS = "masks"
_GONE = "a link that leads nowhere, or not to be read"


@dataclass
class Found:
    """The videos below a folder.

    Attributes:
        videos: A stamp of each video, which changes with its content: (time of change in ns, size in bytes) of a
            file, (last time of change in ns, number of images, their size in bytes) of a frame folder.
        left_out: How many files look like a picture or a video and belong to no video, by reason and ending.
    """

    videos: dict[Path, list[int]] = field(default_factory=dict)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)

    def summary(self) -> str:
        """What is left out, for a message: "3 .heic (not read by this program), 40 .png (masks)"; may be empty."""
        parts = []
        for reason in dict.fromkeys(reason for reason, _ in self.left_out):
            counts = sorted((end, n) for (why, end), n in self.left_out.items() if why == reason)
            parts.append(", ".join(f"{n} {end}" for end, n in counts) + f" ({reason})")
        return ", ".join(parts)


def find_videos(root: str | Path) -> Found:
    """List video files and frame folders by their names, recursively, sorted within each folder.

    A folder with at least two images and no video file is one video; its subfolders are not searched. Pictures and
    videos that belong to no video are counted, also those in folders `Annotations...` beside `JPEGImages`: their
    images are labels. Hidden names are ignored. Links are followed, each folder once. A folder that cannot be read
    is skipped with a warning.
    """
    found = Found()
    _search(Path(root), found, set())
    return found


def _search(folder: Path, found: Found, seen: set[tuple[int, int]], why: str = "") -> None:
    """Add what is in a folder; with a reason `why`, only count it as left out."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:  # a link to a parent folder, or a second link to the same folder
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as listed:
            entries = sorted((entry for entry in listed if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        log.warning("%s is skipped: %s", folder, error.strerror)
        return
    folders = [folder / entry.name for entry in entries if _is(entry.is_dir)]
    files = [folder / entry.name for entry in entries if _is(entry.is_file)]
    videos = [path for path in files if ending(path) in VIDEO_SUFFIXES]
    images = [path for path in files if ending(path) in PICTURE_SUFFIXES]
    others = {entry.name for entry in entries} - {path.name for path in folders + files}
    _count(
        found,
        why or _GONE,
        [Path(name) for name in others if ending(Path(name)) in VIDEO_SUFFIXES | PICTURE_SUFFIXES],
    )
    found.left_out.update((why or _UNREAD, end) for path in files if (end := passed_over(path)))
    masks = [path for path in images if names_masks(path.stem)]
    if len(masks) == len(images) and not folders:
        masks = []  # nothing else could be the frames; what they show decides
    frames = [path for path in images if path not in set(masks)]
    if why:
        _count(found, why, videos + images)
    elif len(frames) >= 2 and not videos:  # images beside videos are thumbnails
        sizes = [path.stat() for path in images]
        changed = max(status.st_mtime_ns, *(size.st_mtime_ns for size in sizes))
        found.videos[folder] = [changed, len(images), sum(size.st_size for size in sizes)]
        why = _BELOW
    else:
        _count(found, _ALONE, frames)
        _count(found, _MASKS, masks)
        found.videos.update((path, [path.stat().st_mtime_ns, path.stat().st_size]) for path in videos)
    labelled = any(path.name == "JPEGImages" for path in folders)
    for path in folders:
        labels = (labelled and path.name.startswith("Annotations")) or (why == _BELOW and names_masks(path.name))
        _search(path, found, seen, _MASKS if labels else why)


def _count(found: Found, reason: str, paths: list[Path]) -> None:
    found.left_out.update((reason, ending(path)) for path in paths)


def _is(kind: Callable[[], bool]) -> bool:
    """The answer of `kind`; False for a link that leads in a circle or to a folder without permission."""
    try:
        return kind()
    except OSError:
        return False
