"""One video with its objects, drawings and masks. All of it lies on disk, so that a crash costs nothing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from vos_umec.data.probe import open_probed
from vos_umec.errors import ConfigError, DataError, MaskError
from vos_umec.io.atomic import atomic_path
from vos_umec.io.frames import Frame, SourceFacts, resized
from vos_umec.io.masks import Ids, read_mask, write_mask
from vos_umec.io.source import FrameSource, open_source

ABOUT = "session.json"
COLORS = (
    "#ff3b5c", "#2ec4ff", "#ffd23f", "#3ddc84", "#b974ff", "#ff8c42", "#1de9d6", "#ff6ad5",
    "#a8e10c", "#5b7cff", "#ff5400", "#00b894", "#e17ff0", "#c9a227", "#7bdff2", "#f15bb5",
)  # fmt: skip
THUMBNAIL = "thumbnail.jpg"
_THUMBNAIL_SIDE, _PICTURE_SIDE = 320, 1920  # the longer sides of pictures for the browser


@dataclass
class TrackedObject:
    """An object of a session.

    Attributes:
        id: Its number in the masks, 1 to 254.
        name: What the user calls it.
        color: As "#rrggbb".
        locked: Stays as it is: neither followed nor painted over.
    """

    id: int
    name: str
    color: str
    locked: bool = False

    def change(self, changes: dict[str, Any]) -> None:
        """Give it another name, color or lock.

        Raises:
            ConfigError: There is no such property, or its value is not one.
        """
        for key, value in changes.items():
            if key == "name" and isinstance(value, str) and value.strip():
                self.name = value.strip()[:60]
            elif key == "color" and isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value):
                self.color = value
            elif key == "locked" and isinstance(value, bool):
                self.locked = value
            else:
                raise ConfigError(
                    f"an object has a name, a color such as #ff3b5c, and is locked or not; found {key} {value!r}"
                )


class Session:
    """The work on one video, in a folder of its own.

    `masks/` holds what is shown, `drawn/` what the user drew, `session.json` all else. Each is written before the
    next, and replaced as a whole. The methods may be called from several threads.

    Args:
        folder: The folder, which `create` has made.

    Raises:
        DataError: The folder holds no session, or its video has changed.
        ConfigError: Another process has opened it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        about = read_about(folder)
        self.video = Path(about["video"])
        self.name: str = about["name"]
        self.short_side: int | None = about["short_side"]
        self.revision: int = about["revision"]
        known = {field.name for field in fields(TrackedObject)}
        self.objects = [TrackedObject(**{k: o[k] for k in known}) for o in about["objects"]]
        self.drawn: dict[int, list[int]] = {int(index): ids for index, ids in about["drawn"].items()}
        self._created: float = about["created"]
        self._stamp = about["stamp"]
        if stamp(self.video) != self._stamp:
            raise DataError(f"{self.video} is gone or has changed since this session began: open it anew")
        self._own = own(folder)
        facts = SourceFacts(**about["facts"])
        self.source: FrameSource = open_source(self.video, facts)
        self._facts = facts
        self._lock = RLock()
        self._reading = RLock()
        names = self.source.names
        self.done = {i for i, name in enumerate(names) if (folder / "masks" / f"{name}.png").is_file()}
        for index in list(self.drawn):  # of an interruption between the removal of the one and of the other
            if not self._drawing_path(index).is_file():
                del self.drawn[index]

    @classmethod
    def create(cls, folder: Path, video: Path) -> Session:
        """Begin a session about a video, which is read once to count its frames."""
        source = open_probed(video)  # in a process of its own: a video may be broken, or hostile
        name = video.stem if video.is_file() else video.name
        about = {
            "video": str(video.resolve()),
            "name": name,
            "stamp": stamp(video),
            "facts": asdict(source.facts),
            "objects": [asdict(TrackedObject(1, "object 1", COLORS[0]))],
            "drawn": {},
            "revision": 0,
            "short_side": None,
            "created": time.time(),
        }
        with atomic_path(folder / THUMBNAIL) as temporary:
            temporary.write_bytes(_picture(source, 0, _THUMBNAIL_SIDE))
        with atomic_path(folder / ABOUT) as temporary:
            temporary.write_text(json.dumps(about), encoding="utf-8")
        return cls(folder)

    def close(self) -> None:
        """Let other processes open it."""
        self._own.release()

    def open_again(self) -> FrameSource:
        """The video once more, for a thread that reads it in order."""
        return open_source(self.video, self._facts)

    def facts(self) -> dict[str, Any]:
        """All that a browser shows of it, in plain values."""
        with self._lock:
            return {
                "id": self.id,
                "name": self.name,
                "frames": len(self.source),
                "size": list(self.source.size),
                "fps": self.source.fps,
                "names": self.source.names,
                "objects": [asdict(o) for o in self.objects],
                "drawn": {str(index): ids for index, ids in sorted(self.drawn.items())},
                "done": sorted(self.done),
                "short_side": self.short_side,
                "revision": self.revision,
            }

    def require_frame(self, index: int) -> None:
        """Raise a DataError if the video has no such frame."""
        if not 0 <= index < len(self.source):
            raise DataError(f"there is no frame {index}; the video has frames 0 to {len(self.source) - 1}")

    def frame(self, index: int) -> Frame:
        """A frame (H, W, 3) uint8."""
        with self._reading:
            pixels: Frame = self.source.read([index])[0]
            return pixels

    def picture(self, index: int) -> bytes:
        """A frame as JPEG, for the browser."""
        with self._reading:
            return _picture(self.source, index, _PICTURE_SIDE)

    def mask_path(self, index: int) -> Path:
        """Where the mask of a frame lies, if it has one."""
        return self.folder / "masks" / f"{self.source.names[index]}.png"

    def mask(self, index: int) -> Ids:
        """The mask of a frame (H, W) uint8; nothing where it has none."""
        with self._lock:
            if index in self.done:
                return read_mask(self.mask_path(index))
            return np.zeros(self.source.size, np.uint8)

    def drawing(self, index: int) -> tuple[Ids | None, list[int]]:
        """What the user drew on a frame: a mask (H, W), and the objects that it shows, or shows to be absent."""
        with self._lock:
            if index not in self.drawn:
                return None, []
            return read_mask(self._drawing_path(index)), list(self.drawn[index])

    def draw(self, index: int, ids: Ids, drawn: Collection[int]) -> None:
        """Keep a mask that the user drew.

        Args:
            index: The frame.
            ids: Its whole mask (H, W) uint8.
            drawn: The objects that the user drew or corrected on it; the others came from following.

        Raises:
            MaskError: The mask has another size than the video, or shows an object that the session does not have.
        """
        self.require_frame(index)
        if ids.shape != tuple(self.source.size):
            raise MaskError(f"a mask of {ids.shape} pixels for a video of {self.source.size} (H, W)")
        with self._lock:
            known = {o.id for o in self.objects}
            if unknown := ({*np.unique(ids).tolist(), *drawn} - known - {0}):
                raise MaskError(f"the session has no object {', '.join(map(str, sorted(unknown)))}; add it first")
            if not ids.any() and not drawn:
                self.clear(index)
                return
            write_mask(self.mask_path(index), ids)
            self.done.add(index)
            if drawn:
                write_mask(self._drawing_path(index), np.where(np.isin(ids, list(drawn)), ids, 0))
                self.drawn[index] = sorted(set(drawn))
            else:
                self._forget_drawing(index)
            self._changed()

    def put_result(self, index: int, ids: Ids) -> None:
        """Keep the mask (H, W) of a frame that following gave; locked objects stay as they are."""
        with self._lock:
            if locked := [o.id for o in self.objects if o.locked]:
                before = self.mask(index)
                ids = np.where(np.isin(before, locked), before, ids)
            write_mask(self.mask_path(index), ids)
            self.done.add(index)

    def clear(self, index: int) -> None:
        """Forget the mask of a frame, and what was drawn on it."""
        self.require_frame(index)
        with self._lock:
            self._forget_drawing(index)
            self.done.discard(index)
            self.mask_path(index).unlink(missing_ok=True)
            self._changed()

    def add_object(self) -> TrackedObject:
        """Add an object, with a number, a name and a color that no other one has.

        Raises:
            ConfigError: There are 254 already.
        """
        with self._lock:
            free = set(range(1, 255)) - {o.id for o in self.objects}
            if not free:
                raise ConfigError("a video has at most 254 objects; remove one first")
            number = min(free)
            used = {o.color for o in self.objects}
            color = next((c for c in COLORS if c not in used), COLORS[(number - 1) % len(COLORS)])
            added = TrackedObject(number, f"object {number}", color)
            self.objects.append(added)
            self.save()
            return added

    def object(self, number: int) -> TrackedObject:
        """An object by its number.

        Raises:
            ConfigError: There is none.
        """
        found = [o for o in self.objects if o.id == number]
        if not found:
            raise ConfigError(f"the session has no object {number}")
        return found[0]

    def change_object(self, number: int, changes: dict[str, Any]) -> None:
        """Give an object another name, color or lock."""
        with self._lock:
            self.object(number).change(changes)
            self._changed() if "locked" in changes else self.save()

    def remove_object(self, number: int) -> None:
        """Forget an object, and take it out of all masks."""
        with self._lock:
            gone = self.object(number)
            for index in sorted(self.done):
                ids = self.mask(index)
                if (ids == number).any():
                    write_mask(self.mask_path(index), np.where(ids == number, 0, ids))
            for index in list(self.drawn):
                left = [i for i in self.drawn[index] if i != number]
                if left == self.drawn[index]:
                    continue
                if left:
                    ids = read_mask(self._drawing_path(index))
                    write_mask(self._drawing_path(index), np.where(ids == number, 0, ids))
                    self.drawn[index] = left
                else:
                    self._forget_drawing(index)
            self.objects.remove(gone)
            self._changed()

    def save(self) -> None:
        """Write `session.json`."""
        about = {
            "video": str(self.video),
            "name": self.name,
            "stamp": self._stamp,
            "facts": asdict(self._facts),
            "objects": [asdict(o) for o in self.objects],
            "drawn": {str(index): ids for index, ids in self.drawn.items()},
            "revision": self.revision,
            "short_side": self.short_side,
            "created": self._created,
        }
        with self._lock, atomic_path(self.folder / ABOUT) as temporary:
            temporary.write_text(json.dumps(about), encoding="utf-8")

    def _changed(self) -> None:
        self.revision += 1
        self.save()

    def _drawing_path(self, index: int) -> Path:
        return self.folder / "drawn" / f"{self.source.names[index]}.png"

    def _forget_drawing(self, index: int) -> None:
        self.drawn.pop(index, None)
        self._drawing_path(index).unlink(missing_ok=True)


def read_about(folder: Path) -> dict[str, Any]:
    """What `session.json` of a folder says.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no session that can be read ({error})") from error
    return about


def stamp(video: Path) -> list[int]:
    """What changes when a video does: the time and the size of a file, or those of the frames of a folder."""
    try:
        files = sorted(video.iterdir()) if video.is_dir() else [video]
        found = [file.stat() for file in files]
    except OSError:
        return []
    return [max((f.st_mtime_ns for f in found), default=0), sum(f.st_size for f in found), len(found)]


def own(folder: Path) -> FileLock:
    """Keep other processes from a session's folder, until the lock is released or this process ends.

    Raises:
        ConfigError: Another process has it.
    """
    lock = FileLock(folder / ".lock", thread_local=False)  # one thread opens, another one closes
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"the session {folder.name} is open in another vos-umec app; end that one") from error
    return lock


def _picture(source: FrameSource, index: int, side: int) -> bytes:
    """A frame as JPEG, its longer side at most `side`."""
    short, long = sorted(source.size)
    pixels = source.read([index], resized(source.size, max(1, min(short, side * short // long))))[0]
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=90)
    return file.getvalue()
