"""The index of the videos below a folder, kept on disk between runs."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from vos_umec.data.probe import VIDEO_SUFFIXES, describe_all, find_videos
from vos_umec.errors import DataError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.frames import SourceFacts
from vos_umec.io.source import FrameSource, open_source
from vos_umec.progress import progress

log = logging.getLogger(__name__)

_CACHE_NAME = ".vos_umec_index.json"
_FACTS = tuple(field.name for field in fields(SourceFacts))
_CACHE_FORMAT = 4  # 2: key frames and time stamps; 3: mirrored videos are recognized; 4: frame rate


@dataclass(frozen=True)
class VideoEntry:
    """One readable video of an index.

    Attributes:
        id: Path relative to the root, with `/`; the same on every machine.
        path: Video file or folder of frames.
        facts: Reader, number of frames (at least 2), size and what else opening it showed.
        step: Most frequent difference between the numbers in the frame names; 5 if only every fifth frame exists.
        fps: Frames per second; None for a folder of frames, unless it is a copy of a video by `prepare`.
    """

    id: str
    path: Path
    facts: SourceFacts
    step: int
    fps: float | None = None

    def source(self) -> FrameSource:
        """Open the frames, without decoding the whole video again to count them.

        Raises:
            VideoReadError: The video is missing or has changed.
            DataError: A frame folder is empty now.
        """
        return open_source(self.path, self.facts)


@dataclass(frozen=True)
class VideoIndex:
    """The videos below a folder.

    Attributes:
        root: The folder.
        entries: Readable videos, sorted by id; at least one.
        broken: (path, reason) of each video that cannot be used.
    """

    root: Path
    entries: tuple[VideoEntry, ...]
    broken: tuple[tuple[Path, str], ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[VideoEntry]:
        return iter(self.entries)


def scan(root: str | Path, warn: bool = True) -> VideoIndex:
    """List every video below a folder; see `find_videos` for what counts as one.

    The index is kept in `.vos_umec_index.json` in the folder, or in the user's cache folder if the folder cannot be
    written. A video is opened again only if its time or size changed.

    Args:
        root: Folder to search, or a folder of frames.
        warn: Warn of videos that cannot be used, and if only every fifth frame exists (as in the usual YouTube-VOS
            download).

    Raises:
        DataError: There is no such folder, no video in it, or none that can be used.
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
    described = sorted(_described(root, found).items())
    index = VideoIndex(
        root,
        entries=tuple(_entry(id_, found[id_][0], item) for id_, item in described if "reason" not in item),
        broken=tuple((found[id_][0], item["reason"]) for id_, item in described if "reason" in item),
    )
    if not index.entries:
        path, reason = index.broken[0]
        raise DataError(f"none of the {len(found)} videos in {root} can be used: first {path}: {reason}")
    if warn:
        _warn(index)
    return index


def _id(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else root.resolve().name


def _entry(id_: str, path: Path, item: Mapping[str, Any]) -> VideoEntry:
    facts = SourceFacts(**{name: item[name] for name in _FACTS})
    return VideoEntry(id_, path, facts, item["step"], item["rate"])


def _described(root: Path, found: Mapping[str, tuple[Path, list[int]]]) -> dict[str, dict[str, Any]]:
    """What each video holds: from the cache if the stamp is the same, or else by opening it."""
    known = _read_cache(root)
    described = {
        id_: known[id_] for id_, (_, stamp) in found.items() if id_ in known and known[id_].get("stamp") == stamp
    }
    new = [id_ for id_ in found if id_ not in described]
    if not new:
        return described
    answers = describe_all([found[id_][0] for id_ in new], processes=min(4, os.cpu_count() or 1))
    shown = progress(answers, f"indexing {root.name}", len(new))
    try:
        for id_, answer in zip(new, shown, strict=True):
            described[id_] = {"stamp": found[id_][1], **answer}
    finally:  # also after an interrupt: the next start goes on from here
        _write_cache(root, {id_: item for id_, item in described.items() if "temporary" not in item})
    return described


def _warn(index: VideoIndex) -> None:
    if index.broken:
        broken, (path, reason) = len(index.broken), index.broken[0]
        videos = len(index) + broken
        log.warning("%d of %d videos in %s cannot be used (first %s: %s)", broken, videos, index.root, path, reason)
    thinned = sum(entry.step == 5 for entry in index)
    if 2 * thinned > len(index):
        log.warning(
            "only every 5th frame exists in %d of %d videos in %s (the numbers in the names differ by 5): "
            "successive frames are far apart; the all-frames download has the frames between them",
            thinned, len(index), index.root,
        )  # fmt: skip


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
            log.warning("the index %s cannot be read (%s): opening all videos again", path, error)
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
    log.warning("the index of %s cannot be kept on disk: the next start opens all videos again", root)
