"""Videos that come through the browser: limited in kind, number and size, and opened before they count."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

from aiohttp import BodyPartReader, MultipartReader

from vos_umec.errors import DataError
from vos_umec.io.endings import PICTURE_SUFFIXES, VIDEO_SUFFIXES

MOST_BYTES = 4 * 2**30
MOST_PICTURES = 20_000
_SPARE = 2**30  # bytes that stay free on the disk
_PIECE = 2**20


async def receive(reader: MultipartReader, folder: Path) -> Path:
    """Write the files of a form into a folder as they come.

    Args:
        reader: The form: one video file, or the pictures of one video.
        folder: An empty folder.

    Returns:
        The video file, or the folder of pictures.

    Raises:
        DataError: A file is of another kind, or there are too many of them or too large ones.
    """
    taken, names = 0, list[str]()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or not part.filename:
            raise DataError("a part of the upload is no file")
        name = _plain(part.filename)
        suffix = Path(name).suffix.lower()
        if suffix not in PICTURE_SUFFIXES:
            if suffix not in VIDEO_SUFFIXES:
                raise DataError(f"{name} is no video and no picture by its ending; expected one as .mp4 or .jpg")
            if names:
                raise DataError("give one video file, or the pictures of one video")
        elif names and Path(names[0]).suffix.lower() in VIDEO_SUFFIXES:
            raise DataError("give one video file, or the pictures of one video")
        if name in names:
            raise DataError(f"two pictures are named {name}; give those of one folder")
        if len(names) == MOST_PICTURES:
            raise DataError(f"more than {MOST_PICTURES} pictures; open the folder by its path")
        names.append(name)
        taken = await _write(part, folder / name, taken)
    if not names:
        raise DataError("the upload holds no file")
    return folder / names[0] if Path(names[0]).suffix.lower() in VIDEO_SUFFIXES else folder


async def _write(part: BodyPartReader, path: Path, taken: int) -> int:
    """Write one file; give the bytes of the upload so far."""
    free = shutil.disk_usage(path.parent).free - _SPARE
    with path.open("xb") as file:
        while piece := await part.read_chunk(_PIECE):
            taken += len(piece)
            free -= len(piece)
            if taken > MOST_BYTES:
                raise DataError(f"the upload is larger than {MOST_BYTES >> 30} GiB; open the video by its path")
            if free < 0:
                raise DataError("the disk is nearly full; open the video by its path, which copies nothing")
            await asyncio.to_thread(file.write, piece)
    return taken


def _plain(name: str) -> str:
    """A file name without folders and without characters that mean something to a file system."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w. ()-]", "_", last).lstrip(".")[-120:] or "video"
