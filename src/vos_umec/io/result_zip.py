"""The zip of results that an evaluation server expects, and checks of the results before it is written."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from vos_umec.errors import DataError, MaskError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.masks import Ids, decode_mask
from vos_umec.io.png import indexed_png

log = logging.getLogger(__name__)

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip: the same results give the same bytes on any day
_READABLE = 0o644 << 16  # Unix file permissions, as a zip stores them
_UNIX = 3


@dataclass(frozen=True)
class RequiredVideo:
    """What a server requires of one video.

    Attributes:
        name: Name of the video, and of its folder of results.
        frames: Names of the frames whose masks are required, without suffix.
        size: (H, W) of the masks.
        ids: Object ids that the masks may show besides the background.
    """

    name: str
    frames: tuple[str, ...]
    size: tuple[int, int]
    ids: frozenset[int]


Progress = Callable[[Sequence[RequiredVideo]], Iterable[RequiredVideo]]


def find_problems(results: str | Path, videos: Sequence[RequiredVideo], progress: Progress = iter) -> list[str]:
    """Compare a folder of results with what a server requires.

    An object that no mask of its video shows is only logged as a warning: it may be missing by mistake. For the
    arguments see `write_result_zip`.

    Returns:
        One line for each video without a folder or with missing frames, and for each mask that is no indexed PNG,
        has a wrong size, or shows ids that its video does not have. Empty if there are no problems.

    Raises:
        DataError: The folder does not exist.
    """
    results = Path(results)
    if not results.is_dir():
        raise DataError(f"no folder {results}: expected results as <video>/<frame>.png; check the path")
    problems = []
    for video in progress(videos):
        folder = results / video.name
        if not folder.is_dir():
            problems.append(f"no results of the video {video.name}: expected {len(video.frames)} masks in {folder}")
            continue
        missing = [name for name in video.frames if not (folder / f"{name}.png").is_file()]
        if missing:
            count = f"{len(missing)} of the {len(video.frames)} required frames"
            problems.append(f"{folder} lacks {count}: {', '.join(f'{name}.png' for name in missing)}")
        shown: set[int] = set()
        for name in video.frames:
            if name in missing:
                continue
            try:
                shown |= _checked(folder / f"{name}.png", video)[1]
            except MaskError as error:
                problems.append(str(error))
        lost = sorted(video.ids - shown)
        if lost:
            log.warning("no mask of the video %s shows the object %s", video.name, ", ".join(map(str, lost)))
    return problems


def write_result_zip(
    results: str | Path,
    videos: Sequence[RequiredVideo],
    out: str | Path,
    folder: str = "",
    progress: Progress = iter,
) -> int:
    """Write the masks that a server requires, and no other file, into a zip.

    Masks are encoded again as 8-bit indexed PNGs with the DAVIS palette, sorted by name and without dates, so that
    the same masks give the same bytes. The zip appears complete or not at all.

    Args:
        results: Folder with `<video>/<frame>.png`; other files are ignored.
        videos: What is required.
        out: The zip file.
        folder: Folder inside the zip, e.g. `Annotations`; empty to put the videos at its top.
        progress: Wrapper of the loop over the videos, such as `rich.progress.track`.

    Returns:
        Number of masks in the zip.

    Raises:
        MaskError: A mask is missing or wrong; `find_problems` lists all of them.
        DataError: A name of a video or of a frame leads out of the folder.
        OSError: The zip cannot be written.
    """
    written = 0
    with atomic_path(out) as temporary, ZipFile(temporary, "w", ZIP_STORED) as zip_file:  # PNGs are compressed
        for video in progress(sorted(videos, key=lambda video: video.name)):
            for name in sorted(video.frames):
                ids, _ = _checked(Path(results) / video.name / f"{name}.png", video)
                inside = PurePosixPath(folder, video.name, f"{name}.png")
                if inside.is_absolute() or ".." in inside.parts or "\\" in str(inside):
                    raise DataError(
                        f"the video {video.name!r} would lie outside the folder where {out} is unpacked"
                    )
                info = ZipInfo(str(inside), _EARLIEST)
                info.external_attr, info.create_system = _READABLE, _UNIX
                zip_file.writestr(info, indexed_png(ids))
                written += 1
    return written


def _checked(path: Path, video: RequiredVideo) -> tuple[Ids, set[int]]:
    """A mask and the set of its ids, if both are what the server expects."""
    ids = _indices(path)
    if ids.shape != video.size:
        found, expected = ("{1} x {0}".format(*size) for size in (ids.shape, video.size))
        raise MaskError(f"{path} is {found} pixels, its video {expected}: write masks at the size of the frames")
    shown = set(np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist())  # faster than np.unique
    unknown = sorted(shown - {0, *video.ids})
    if unknown:
        raise MaskError(
            f"{path} shows the ids {', '.join(map(str, unknown))}, which its video does not have: expected the "
            f"background, 0, and {', '.join(map(str, sorted(video.ids)))}"
        )
    return ids, shown


def _indices(path: Path) -> Ids:
    """Indices of an indexed PNG; the ids of grey and color images would be a guess."""
    image = decode_mask(path)
    if isinstance(image, np.ndarray):
        return image
    if (image.format, image.mode) != ("PNG", "P"):
        raise MaskError(
            f"{path} is a {image.format} with pixels of type {image.mode}: expected an indexed PNG, such as "
            "`vos_umec.write_mask` writes"
        )
    return np.array(image)
