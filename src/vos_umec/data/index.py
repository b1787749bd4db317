"""Finds the videos below a folder by name alone; nothing is opened."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import track

from vos_umec.data.probe import describe_all
from vos_umec.errors import DataError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.folder import PICTURE_SUFFIXES
from vos_umec.io.frames import SourceFacts
from vos_umec.io.source import FrameSource, open_source

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


_FACTS = tuple(field.name for field in fields(SourceFacts))
_CACHE_NAME = ".vos_umec_index.json"
_CACHE_FORMAT = 3  # 2: key frames and time stamps; 3: mirrored videos are told


@dataclass(frozen=True)
class VideoEntry:
    """One readable video of an index.

    Attributes:
        id: Path relative to the root, with ``/``; the same on every machine.
        path: Video file or folder of frames.
        frames: Number of frames, at least 2.
        size: (H, W) as displayed.
        fps: Frames a second.
        reader: The reader that is right for it; found out again when opened if None.
        step: Usual distance of the numbers in the frames' names; 5 if only every fifth frame is there.
        keys: Key frames of a video file.
        stamps: Its time stamps, see `SourceFacts`.

    Example:
        >>> VideoEntry("zoo/bear.mp4", Path("videos/zoo/bear.mp4"), frames=82, size=(480, 854), fps=24.0).step
        1
    """

    id: str
    path: Path
    frames: int
    size: tuple[int, int]
    fps: float
    reader: Literal["folder", "decord", "pyav"] | None = None
    step: int = 1
    keys: tuple[int, ...] = ()
    stamps: tuple[tuple[int, int], ...] | None = None

    def source(self) -> FrameSource:
        """Open the frames, without decoding the whole video again to count them and to find its key frames.

        Returns:
            A new reader.

        Raises:
            VideoReadError: The video is gone or has changed.
            DataError: A frame folder is empty now.
        """
        return open_source(self.path, self.facts)

    @property
    def facts(self) -> SourceFacts | None:
        """What opening it found out; None if nobody has looked."""
        if self.reader is None:
            return None
        return SourceFacts(self.reader, self.frames, self.size, self.fps, self.keys, self.stamps)


@dataclass(frozen=True)
class VideoIndex:
    """The videos below a folder.

    Attributes:
        root: The folder.
        entries: Readable videos, sorted by id; at least one.
        broken: (path, reason) of each video that cannot be used.

    Example:
        >>> bear = VideoEntry("bear.mp4", Path("bear.mp4"), frames=82, size=(480, 854), fps=24.0)
        >>> index = VideoIndex(Path("."), entries=(bear,))
        >>> len(index), [entry.id for entry in index]
        (1, ['bear.mp4'])
    """

    root: Path
    entries: tuple[VideoEntry, ...]
    broken: tuple[tuple[Path, str], ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[VideoEntry]:
        return iter(self.entries)


def scan(root: str | Path, cache: bool = True, warn: bool = True) -> VideoIndex:
    """List every video below a folder; see `find_videos` for what counts as one.

    A video that cannot be read is listed with its reason, skipped, and counted in one warning. Another warning
    tells when the names show that only every fifth frame is there (the usual YouTube-VOS download).

    Args:
        root: Folder to search, or a folder of frames.
        cache: Remember what was found, in ``.vos_umec_index.json`` in the folder, or in the user's cache folder if
            that cannot be written. A video is looked into again only when its time or size changed.
        warn: Log the two warnings.

    Returns:
        The index.

    Raises:
        DataError: There is no such folder, no video in it, or none that can be read.

    Example:
        >>> scan("no/such/folder")
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: video folder no/such/folder is missing: give the path of a folder of videos
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "is missing"
        raise DataError(f"video folder {root} {what}: give the path of a folder of videos")
    found = {_id(root, path): (path, stamp) for path, stamp in find_videos(root)}
    if not found:
        raise DataError(
            f"no video in {root}: expected video files ({' '.join(sorted(VIDEO_SUFFIXES))}) or folders of at "
            "least two images, at any depth"
        )
    described = _described(root, found, cache)
    index = VideoIndex(
        root,
        entries=tuple(
            _entry(name, found[name][0], item) for name, item in sorted(described.items()) if "reason" not in item
        ),
        broken=tuple(
            (found[name][0], item["reason"]) for name, item in sorted(described.items()) if "reason" in item
        ),
    )
    if not index.entries:
        path, reason = index.broken[0]
        raise DataError(f"none of the {len(found)} videos in {root} can be used: first {path}: {reason}")
    if warn:
        _warn(index)
    return index


def _described(root: Path, found: Mapping[str, tuple[Path, list[int]]], cache: bool) -> dict[str, dict[str, Any]]:
    """What is in each video: from the cache where the stamp still fits, else by looking."""
    known = _read_cache(root) if cache else {}
    described = {name: known[name] for name, (_, stamp) in found.items() if _fits(known.get(name), stamp)}
    new = [name for name in found if name not in described]
    if not new:
        return described
    answers = describe_all([found[name][0] for name in new], processes=min(4, os.cpu_count() or 1))
    shown = track(answers, f"Indexing {root.name}", len(new), console=Console(stderr=True), transient=True)
    try:
        for name, answer in zip(new, shown, strict=True):
            described[name] = {"stamp": found[name][1], **answer}
    finally:
        if cache:  # also when interrupted: what was seen need not be looked at again
            _write_cache(root, {name: item for name, item in described.items() if "passing" not in item})
    return described


def _id(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else root.resolve().name


def _entry(name: str, path: Path, item: Mapping[str, Any]) -> VideoEntry:
    facts = SourceFacts(**{key: item[key] for key in _FACTS})
    return VideoEntry(
        name, path, facts.frames, facts.size, facts.fps, facts.reader, item["step"], facts.keys, facts.stamps
    )


def _fits(item: Mapping[str, Any] | None, stamp: list[int]) -> bool:
    return item is not None and item.get("stamp") == stamp


def _warn(index: VideoIndex) -> None:
    videos = len(index.entries) + len(index.broken)
    if index.broken:
        path, reason = index.broken[0]
        skipped = len(index.broken)
        log.warning(
            "%d of %d videos in %s cannot be used (first %s: %s)", skipped, videos, index.root, path, reason
        )
    thinned = sum(entry.step == 5 for entry in index)
    if 2 * thinned > len(index):
        log.warning(
            "only every 5th frame is there in %d of %d videos in %s (names go in steps of 5): successive frames "
            "lie far apart; the all-frames download has the true neighbours",
            thinned,
            videos,
            index.root,
        )


def _cache_files(root: Path) -> tuple[Path, Path]:
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vos_umec"
    digest = sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return root / _CACHE_NAME, user / f"index-{digest}.json"


def _read_cache(root: Path) -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}
    for path in _cache_files(root):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] == _CACHE_FORMAT:
                known.update(content["videos"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the index %s is not readable (%s): looking into all videos again", path, error)
    return known


def _write_cache(root: Path, described: Mapping[str, Mapping[str, Any]]) -> None:
    text = json.dumps({"format": _CACHE_FORMAT, "videos": described})
    for path in _cache_files(root):
        try:
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            return
        except OSError as error:
            log.debug("no index kept in %s (%s)", path, error)
    log.warning("the index of %s could not be kept on disk; the next start looks into all videos again", root)
