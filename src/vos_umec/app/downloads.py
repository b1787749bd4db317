"""What a session gives away: masks as DAVIS has them, COCO's run lengths, and a video with the masks over it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from vos_umec.app.session import Session
from vos_umec.errors import DataError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.coco import coco_video
from vos_umec.io.pipeline import read_ahead
from vos_umec.io.png import davis_palette
from vos_umec.io.video_writer import VideoWriter
from vos_umec.viz.overlays import paint


def write_davis_zip(session: Session, path: Path) -> None:
    """A zip of NAME/FRAME.png, indexed PNGs with the DAVIS palette, and of the names of the objects."""
    names = {str(o.id): o.name for o in session.objects}
    with atomic_path(path) as temporary, ZipFile(temporary, "w", ZIP_STORED) as file:  # a PNG is packed already
        for index in sorted(session.done):
            file.write(session.mask_path(index), f"{session.name}/{session.mask_path(index).name}")
        file.writestr("objects.json", json.dumps(names, indent=2) + "\n")


def write_coco_json(session: Session, path: Path) -> None:
    """COCO's JSON with compressed run lengths; an object is a category, and a track through the frames."""
    names = session.source.names
    masks = ((index, f"{names[index]}.png", session.mask(index)) for index in sorted(session.done))
    content = coco_video(masks, {o.id: o.name for o in session.objects})
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def write_overlay_video(session: Session, path: Path) -> None:
    """All frames of the video, with the masks over them in the colors that the user gave the objects."""
    colors = davis_palette()
    for tracked in session.objects:
        colors[tracked.id] = list(bytes.fromhex(tracked.color[1:]))
    with VideoWriter(path, session.source.fps) as writer:
        for index, frame in read_ahead(session.open_again()):
            ids = session.mask(index)
            writer.write(paint(frame, ids, colors, (ids != 0) & np.isin(ids, [o.id for o in session.objects]), 0.5))


DOWNLOADS: dict[str, tuple[str, Callable[[Session, Path], None]]] = {
    "davis": ("-masks.zip", write_davis_zip),
    "coco": ("-coco.json", write_coco_json),
    "overlay": ("-overlay.mp4", write_overlay_video),
}
"""What can be downloaded: by its name, the end of the file's name, and what writes it."""


def write_download(session: Session, kind: str) -> Path:
    """Write a download into the session's folder.

    Raises:
        DataError: There is no such kind, or no mask yet.
    """
    path = download_path(session, kind)
    if not session.done:
        raise DataError("no frame has a mask yet: draw an object first")
    DOWNLOADS[kind][1](session, path)
    return path


def download_path(session: Session, kind: str) -> Path:
    """Where `write_download` puts it."""
    if kind not in DOWNLOADS:
        raise DataError(f"there is no download {kind[:40]}; there are {', '.join(DOWNLOADS)}")
    return session.folder / "downloads" / f"{session.name}{DOWNLOADS[kind][0]}"
