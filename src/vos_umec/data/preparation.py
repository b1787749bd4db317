"""A training copy of a folder of videos: small JPEG frames, from which clips are read quickly.

`python -m vos_umec.data.preparation` copies single videos on request; see `vos_umec.data.processes`.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from vos_umec.data.index import VideoEntry, VideoIndex, scan
from vos_umec.data.probe import COPY_MARK
from vos_umec.data.processes import ask_all, serve
from vos_umec.data.search import find_videos
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.atomic import atomic_folder, remove_leftovers
from vos_umec.io.frames import SourceFacts, report_progress, resized
from vos_umec.io.source import open_source
from vos_umec.io.written import RECORD, WrittenFiles
from vos_umec.progress import progress

log = logging.getLogger(__name__)

# Measured on 480p at a short side of 319: 42.6 dB. Quality 90 has 40.0 dB, takes a third less disk space and is
# hardly faster. Videos with key frames only (h264, MJPEG) took as little as a third of the space, and up to three
# times as long to read.
_QUALITY = 95
_BATCH = 16  # frames that a process holds at a time
_SECONDS, _SECONDS_PER_FRAME = 60.0, 1.0  # time limit of one video; a frame takes a few hundredths of a second


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did."""

    copied: tuple[str, ...]  # ids of the videos copied now
    kept: tuple[str, ...]  # ids of the videos whose copy existed already
    broken: tuple[tuple[Path, str], ...]  # path and reason of each video that cannot be read


def prepare(
    root: str | Path,
    out: str | Path,
    short_side: int = 319,
    workers: int | None = None,
    overwrite: bool = False,
) -> Prepared:
    """Copy each video below a folder into a folder of JPEG frames, for training to use instead.

    The copy has the same videos with the same ids, and the same frames with the same names in the same order. The
    frame rate of a video file is noted in its copy. A video smaller than `short_side` keeps its size. The JPEG
    quality is 95, about 43 dB. At another short side than the copy's, the longer side of a clip may differ by a
    pixel from that of the video itself.

    A video appears in the copy only when it is complete, and a second run copies only what is missing or has
    changed since: after an interruption, start it again. Do not run two at once. Only earlier copies are replaced,
    and only if they hold nothing else than what was written then.

    Args:
        root: Folder of videos and frame folders, searched at any depth.
        out: Folder of the copy, not within `root`.
        short_side: Length in pixels of the copy's shorter side, at least 16; not less than training uses.
        workers: Processes that copy; None for one per core.
        overwrite: Replace an earlier copy with all its files, also those that vos-umec did not write.

    Raises:
        ConfigError: A setting is out of range, one folder lies within the other, or something else is where a copy
            would be.
        DataError: No video can be read, or the copy cannot be written.
    """
    root, out = Path(root), Path(out)
    workers = os.cpu_count() or 1 if workers is None else workers
    if short_side < 16 or workers < 1:
        raise ConfigError(f"short_side is {short_side} and workers {workers}; expected at least 16 and 1")
    if out.resolve().is_relative_to(root.resolve()) or root.resolve().is_relative_to(out.resolve()):
        raise ConfigError(
            f"one of {out} (copy) and {root} (videos) lies within the other; choose a separate folder"
        )
    index = scan(root, warn=False)
    stamps = find_videos(root).videos
    marks = {
        entry.id: {"source": stamps.get(entry.path), "short_side": short_side, "fps": entry.fps} for entry in index
    }
    kept = tuple(entry.id for entry in index if _read_mark(out / entry.id) == marks[entry.id])
    missing = [entry for entry in index if entry.id not in set(kept)]
    for target in (out / entry.id for entry in missing):
        if os.path.lexists(target) and _read_mark(target) is None:
            raise ConfigError(f"{target} exists and is not an earlier copy: choose another folder for the copies")
        if not overwrite and target.is_dir():
            inside = (path for path in target.rglob("*") if path.name != RECORD and not path.is_dir())
            WrittenFiles(target).require_own(inside)
    copied, broken = [], list(index.broken)
    for entry, answer in _copy_all(missing, out, marks, workers):
        if "unwritten" in answer:
            raise DataError(f"the copy in {out} cannot be written: {answer['unwritten']}")
        if "reason" in answer:
            remove_leftovers(out / entry.id)  # of a process that crashed
            broken.append((entry.path, answer["reason"]))
        else:
            copied.append(entry.id)
    _check(index, out, {*kept, *copied})
    return Prepared(tuple(copied), kept, tuple(broken))


def _copy_all(
    entries: list[VideoEntry], out: Path, marks: dict[str, Any], workers: int
) -> Iterator[tuple[VideoEntry, dict[str, Any]]]:
    """Copy in several processes, with a progress bar."""
    requests = [
        {
            "path": str(entry.path),
            "facts": asdict(entry.facts),
            "target": str(out / entry.id),
            "mark": marks[entry.id],
        }
        for entry in entries
    ]
    limits = [_SECONDS + _SECONDS_PER_FRAME * entry.facts.frames for entry in entries]
    answers = ask_all("vos_umec.data.preparation", requests, limits, workers)
    bar = progress(answers, "copying", len(entries))
    yield from zip(entries, bar, strict=True)


def _copy(request: dict[str, Any]) -> dict[str, Any]:
    """Copy one video; runs in a process that may crash."""
    path, target, mark = request["path"], Path(request["target"]), request["mark"]
    try:
        source = open_source(path, SourceFacts(**request["facts"]))
        size = resized(source.size, min(mark["short_side"], *source.size))
        names = source.names
        with atomic_folder(target) as folder:
            written = WrittenFiles(folder)
            for start in range(0, len(source), _BATCH):
                indices = range(start, min(start + _BATCH, len(source)))
                for i, frame in zip(indices, source.read(indices, size), strict=True):
                    jpeg = BytesIO()
                    Image.fromarray(frame).save(jpeg, format="JPEG", quality=_QUALITY)
                    written.write(folder / f"{names[i]}.jpg", jpeg.getvalue())
                    report_progress()
            written.write(folder / COPY_MARK, json.dumps(mark).encode())
    except DataError as error:
        return {"reason": str(error).removeprefix(f"cannot read {path}: ")}
    except OSError as error:
        return {"unwritten": str(error)}
    return {}


def _read_mark(folder: Path) -> Any:
    """What a copied video was made from, and how; None if there is no such copy."""
    try:
        return json.loads((folder / COPY_MARK).read_text())
    except (OSError, ValueError, RecursionError):
        return None


def _check(index: VideoIndex, out: Path, done: set[str]) -> None:
    """Index the copy, so that training finds the index ready, and compare it with the videos."""
    if not done:
        raise DataError(f"none of the {len(index)} videos in {index.root} could be copied")
    copies = {entry.id: entry.facts.frames for entry in scan(out, warn=False)}
    wrong = [entry.id for entry in index if entry.id in done and copies.get(entry.id) != entry.facts.frames]
    if wrong:
        raise DataError(
            f"the copy of {wrong[0]} in {out} has other frames than the video; remove it and start again"
        )
    extra = sorted(copies.keys() - done)
    if extra:
        log.warning("%d videos in %s have no video in %s, first %s", len(extra), out, index.root, extra[0])


if __name__ == "__main__":
    serve(_copy)
