"""The zip of results that an evaluation server takes, checked before a byte of it is written."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from PIL import Image

from vos_umec.errors import DataError, MaskError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.masks import Ids
from vos_umec.io.png import davis_palette, plain_indices

log = logging.getLogger(__name__)

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the zero of a zip's clock: the same results give the same bytes on any day
_READABLE = 0o644 << 16  # Unix rights, in the place where a zip keeps them
_UNIX = 3


@dataclass(frozen=True)
class RequiredVideo:
    """What a server asks of one video.

    Attributes:
        name: Name of the video, and of its folder of results.
        frames: Names of the frames whose masks are asked for, without suffix.
        size: (H, W) of the masks.
        ids: Objects that the masks may show besides the background.

    Example:
        >>> RequiredVideo("dog", frames=("00000", "00005"), size=(480, 854), ids=frozenset({1, 3})).size
        (480, 854)
    """

    name: str
    frames: tuple[str, ...]
    size: tuple[int, int]
    ids: frozenset[int]


Progress = Callable[[Sequence[RequiredVideo]], Iterable[RequiredVideo]]


def find_problems(results: str | Path, videos: Sequence[RequiredVideo], progress: Progress = iter) -> list[str]:
    """Hold a folder of results against what a server asks for.

    An object that no mask of its video shows is no problem, but is told in a warning: it may be lost in all of
    them, or forgotten.

    Args:
        results: Folder with ``<video>/<frame>.png``; what is not asked for is passed over.
        videos: What is asked for.
        progress: Wrapper of the loop over the videos, such as ``rich.progress.track``.

    Returns:
        One line for each video without a folder or with missing frames, and for each mask that is no indexed PNG,
        has a wrong size, or shows ids that its video does not have; empty where all is well.

    Raises:
        DataError: There is no such folder.

    Example:
        >>> find_problems("no/such/folder", [])
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder: expected results as <video>/<frame>.png; check the path
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
            count = f"{len(missing)} of the {len(video.frames)} frames asked for"
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
    """Write the masks that a server asks for, and no other file, into a zip.

    Masks are written again as 8-bit indexed PNGs with the DAVIS palette, sorted by name and without the time, so
    that the same masks give the same bytes. The zip is written whole or not at all.

    Args:
        results: Folder with ``<video>/<frame>.png``.
        videos: What is asked for.
        out: The zip.
        folder: Folder inside the zip, e.g. ``Annotations``; empty for the videos at its top.
        progress: Wrapper of the loop over the videos, such as ``rich.progress.track``.

    Returns:
        Number of masks in the zip.

    Raises:
        MaskError: A mask is missing or wrong; see `find_problems` for the list of all that are.
        OSError: The zip cannot be written.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "empty.zip"
        >>> write_result_zip("results", [], out), out.is_file()
        (0, True)
    """
    written = 0
    with atomic_path(out) as temporary, ZipFile(temporary, "w", ZIP_STORED) as zip_file:  # PNGs are compressed
        for video in progress(sorted(videos, key=lambda video: video.name)):
            for name in sorted(video.frames):
                ids, _ = _checked(Path(results) / video.name / f"{name}.png", video)
                info = ZipInfo("/".join(filter(None, (folder, video.name, f"{name}.png"))), _EARLIEST)
                info.external_attr, info.create_system = _READABLE, _UNIX
                zip_file.writestr(info, _png(ids))
                written += 1
    return written


def _checked(path: Path, video: RequiredVideo) -> tuple[Ids, set[int]]:
    """A mask and the ids in it, if they are what the server expects."""
    ids = _indices(path)
    if ids.shape != video.size:
        found, expected = ("{1} x {0}".format(*size) for size in (ids.shape, video.size))
        raise MaskError(f"{path} is {found} pixels, its video {expected}: write masks at the size of the frames")
    shown = set(np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist())  # quicker than np.unique
    unknown = sorted(shown - {0, *video.ids})
    if unknown:
        raise MaskError(
            f"{path} shows the ids {', '.join(map(str, unknown))}, which its video does not have: expected the "
            f"background, 0, and {', '.join(map(str, sorted(video.ids)))}"
        )
    return ids, shown


def _indices(path: Path) -> Ids:
    """Indices of an indexed PNG; grey and color pictures, whose ids would be a guess, are refused."""
    try:
        data = path.read_bytes()
        ids = plain_indices(data)
        if ids is not None:
            return ids
        with Image.open(BytesIO(data)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MaskError(f"{path} cannot be read: {error}; expected an indexed PNG") from error
    if (image.format, image.mode) != ("PNG", "P"):
        raise MaskError(
            f"{path} is a {image.format} with pixels of type {image.mode}: expected an indexed PNG, such as "
            "`vos_umec.io.masks.write_mask` writes"
        )
    return np.array(image)


def _png(ids: Ids) -> bytes:
    image, file = Image.fromarray(ids), BytesIO()
    image.putpalette(davis_palette().tobytes())
    image.save(file, format="PNG", optimize=False)
    return file.getvalue()
