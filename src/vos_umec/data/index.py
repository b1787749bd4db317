"""The index of the videos below a folder, kept on disk between runs."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from math import inf
from pathlib import Path, PurePosixPath
from typing import Any, get_args, get_type_hints

from vos_umec.data.probe import FACTS, describe_all
from vos_umec.data.search import find_videos
from vos_umec.errors import DataError
from vos_umec.io import picture
from vos_umec.io.atomic import atomic_path
from vos_umec.io.container import MOST_PIXELS
from vos_umec.io.endings import VIDEO_SUFFIXES
from vos_umec.io.frames import SourceFacts
from vos_umec.io.mask_like import names_masks
from vos_umec.io.source import FrameSource, open_source
from vos_umec.progress import progress

log = logging.getLogger(__name__)

INDEX_NAME = ".vos_umec_index.json"
_CACHE_FORMAT = 5  # 3: mirrored videos are recognized; 4: frame rate; 5: masks
_MOST_FRAMES = 10**8  # a month at 40 frames a second
_SHORTEST_SIDE = 16  # pixels; smaller pictures are test pictures or placeholders


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
        masks: Folders and video files that show masks, which are not used.
        left_out: What else looks like a picture or a video and is not used, with counts by ending; may be empty.
    """

    root: Path
    entries: tuple[VideoEntry, ...]
    broken: tuple[tuple[Path, str], ...] = ()
    masks: tuple[Path, ...] = ()
    left_out: str = ""

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
    search = find_videos(root)
    found = {_id(root, path): (path, stamp) for path, stamp in search.videos.items()}
    if not found:
        seen = f"; it holds {search.summary()}" if search.left_out else ""
        raise DataError(
            f"no video in {root}: expected video files ({' '.join(sorted(VIDEO_SUFFIXES))}) or folders of at "
            f"least two images, at any depth{seen}"
        )
    described = sorted(_described(root, found).items())
    entries, broken, masks = [], [], []
    for id_, item in described:
        path = found[id_][0]
        reason = _unusable(item)
        if reason is not None:
            broken.append((path, reason))
        elif path != root and _shows_masks(id_, item):
            masks.append(path)
        else:
            entries.append(_entry(id_, path, item))
    index = VideoIndex(root, tuple(entries), tuple(broken), tuple(masks), search.summary())
    if not index.entries:
        path, reason = next(iter([*broken, *((path, "it shows masks") for path in masks)]))
        raise DataError(f"none of the {len(found)} videos in {root} can be used: first {path}: {reason}")
    if warn:
        _warn(index)
    return index


def _unusable(item: Mapping[str, Any]) -> str | None:
    """Why a video cannot be used for training; None if it can."""
    if "reason" in item:
        return str(item["reason"])
    if item["frames"] < 2:
        return "it has a single frame, a video needs two"
    if min(item["size"]) < _SHORTEST_SIDE:
        return f"its frames are {tuple(item['size'])} (H, W), a side needs {_SHORTEST_SIDE} pixels"
    return None


def _shows_masks(id_: str, item: Mapping[str, Any]) -> bool:
    """Whether a video consists of masks: by what it shows alone, or also by its name and those of its folders."""
    return item["flat"] and (item["plain"] or any(map(names_masks, PurePosixPath(id_).with_suffix("").parts)))


def _id(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else root.resolve().name


def _entry(id_: str, path: Path, item: Mapping[str, Any]) -> VideoEntry:
    facts = SourceFacts(**{name: item[name] for name in FACTS})
    return VideoEntry(id_, path, facts, item["step"], item["rate"])


def _described(root: Path, found: Mapping[str, tuple[Path, list[int]]]) -> dict[str, dict[str, Any]]:
    """What each video holds: from the cache if the stamp is the same, or else by opening it."""
    known = _read_cache(root)
    described = {
        id_: known[id_] for id_, (_, stamp) in found.items() if id_ in known and _is_sound(known[id_], stamp)
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


def _is_sound(item: Any, stamp: list[int]) -> bool:
    """Whether a kept description is of this very video, and one that `describe` may have given.

    The index comes with the folder, which a stranger may have made: his numbers must not take all memory.
    """
    try:
        if item["stamp"] != stamp or "reason" in item:
            return item["stamp"] == stamp and isinstance(item["reason"], str)
        facts = SourceFacts(**{name: item[name] for name in FACTS})
        numbers = [facts.frames, *facts.size, *facts.keys, item["step"], *chain.from_iterable(facts.stamps)]
        rates = [facts.fps] if item["rate"] is None else [facts.fps, item["rate"]]
        return (
            facts.reader in get_args(get_type_hints(SourceFacts)["reader"])
            and all(type(number) is int for number in numbers)
            and all(isinstance(rate, int | float) and 0 < rate < inf for rate in rates)
            and 1 <= facts.frames < _MOST_FRAMES
            and 1 <= min(facts.size) <= facts.size[0] * facts.size[1] <= max(MOST_PIXELS, picture.MOST_PIXELS)
            and all(0 <= key < facts.frames for key in facts.keys)
            and (not facts.stamps or min(count for _, count in facts.stamps) > 0)
            and sum(count for _, count in facts.stamps) in (0, facts.frames)
            and item["step"] >= 1
            and all(isinstance(name, str) for name in facts.left_out)
            and all(isinstance(item[name], bool) for name in ("flat", "plain"))
        )
    except (KeyError, TypeError, ValueError):
        return False


def _warn(index: VideoIndex) -> None:
    if index.broken:
        broken, (path, reason) = len(index.broken), index.broken[0]
        videos = len(index) + broken
        log.warning("%d of %d videos in %s cannot be used (first %s: %s)", broken, videos, index.root, path, reason)
    left_out = [index.left_out] if index.left_out else []
    if index.masks:
        left_out.append(f"{len(index.masks)} folders or videos of masks (first {index.masks[0]})")
    mixed = [entry for entry in index if entry.facts.left_out]
    if mixed:
        left_out.append(
            f"masks among the frames of {len(mixed)} videos (first {mixed[0].facts.left_out[0]} in {mixed[0].path})"
        )
    if left_out:
        log.warning("left out of the videos in %s: %s", index.root, ", ".join(left_out))
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
    return root / INDEX_NAME, user / f"index-{digest}.json"


def _read_cache(root: Path) -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}
    for path in _cache_files(root):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] == _CACHE_FORMAT:
                known.update(content["videos"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
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
