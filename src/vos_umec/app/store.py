"""The folder of sessions: begun, found again, removed."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from vos_umec.app.session import ABOUT, THUMBNAIL, Session, own, read_about, stamp
from vos_umec.errors import DataError

log = logging.getLogger(__name__)


class SessionStore:
    """All sessions of a folder; one that is open is the same object for every tab.

    Args:
        root: The folder; it is created with the first session.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[str, Session] = {}
        self._lock = Lock()

    def create(self, video: Path) -> Session:
        """Begin a session about a video of this machine, which stays where it is.

        Raises:
            DataError: It is no video that can be read.
        """
        with self.new_folder(video.stem) as folder:
            return self._keep(Session.create(folder, video))

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """A folder for a new session, removed if the block ends with an error."""
        plain = re.sub("[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "video"
        folder = self.root / f"{plain}-{secrets.token_hex(6)}"
        folder.mkdir(parents=True)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def begin(self, folder: Path, video: Path) -> Session:
        """Begin a session in a folder of `new_folder`."""
        return self._keep(Session.create(folder, video))

    def get(self, name: str) -> Session:
        """A session by its id; it is opened on first use.

        Raises:
            DataError: There is none, or its video is gone.
            ConfigError: Another process has it open.
        """
        with self._lock:
            if name not in self._open:
                self._open[name] = Session(self._folder(name))
            return self._open[name]

    def of_video(self, video: Path) -> Session | None:
        """The latest session about a video, if the video has not changed since."""
        for about in self.listing():
            if about["video"] == str(video.resolve()) and about["there"]:
                return self.get(about["id"])
        return None

    def listing(self) -> list[dict[str, Any]]:
        """What can be opened again, the latest first."""
        found = []
        for file in self.root.glob(f"*/{ABOUT}"):
            try:
                about = read_about(file.parent)
                found.append(
                    {
                        "id": file.parent.name,
                        "name": about["name"],
                        "video": about["video"],
                        "frames": about["facts"]["frames"],
                        "size": about["facts"]["size"],
                        "objects": len(about["objects"]),
                        "masks": len(list((file.parent / "masks").glob("[!.]*.png"))),
                        "changed": file.stat().st_mtime,
                        "there": stamp(Path(about["video"])) == about["stamp"],
                    }
                )
            except (DataError, KeyError, OSError) as error:
                log.warning("a session is left out of the list: %s", error)
        return sorted(found, key=lambda about: -float(about["changed"]))

    def remove(self, name: str) -> None:
        """Remove a session with its masks, and its video where that was uploaded into it."""
        folder = self._folder(name)
        with self._lock:
            session = self._open.pop(name, None)
            if session is not None:
                session.close()
        with own(folder):
            shutil.rmtree(folder)

    def thumbnail(self, name: str) -> Path:
        """The small picture of a session."""
        return self._folder(name) / THUMBNAIL

    def close(self) -> None:
        """Let other processes open the sessions."""
        for session in self._open.values():
            session.close()

    def _keep(self, session: Session) -> Session:
        with self._lock:
            self._open[session.id] = session
        return session

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        if not re.fullmatch("[A-Za-z0-9-]+", name) or not (folder / ABOUT).is_file():
            raise DataError(f"there is no session {name[:80]}; it may have been removed")
        return folder
