"""A folder's record of what this program wrote into it, so that nothing else is ever replaced."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vos_umec.errors import ConfigError, DataError
from vos_umec.io.atomic import atomic_path

RECORD = ".vos_umec_written"


class WrittenFiles:
    """Writes files into a folder, and knows its own by their content.

    The record has a line for each file: the digest of its bytes, and its name in JSON, as a name may hold line
    breaks. A file that somebody has changed since is not this program's any more. A line is added before its file
    appears, so a process that is killed leaves no file without its line.

    Args:
        folder: The folder; it is created when the first file is written.

    Raises:
        DataError: A file is where the folder is to be.
    """

    def __init__(self, folder: Path) -> None:
        if file := _file_in_the_way(folder):
            raise DataError(f"{file} is a file; name a folder, which is made if there is none")
        self.folder = folder
        self._digests: dict[str, set[str]] = defaultdict(set)
        record = folder / RECORD
        if record.is_file():
            for line in record.read_text(encoding="utf-8", errors="replace").splitlines():
                digest, _, name = line.partition(" ")
                with suppress(ValueError, RecursionError):  # a line that was cut off, or of a stranger
                    self._digests[str(json.loads(name))].add(digest)

    def foreign(self, paths: Iterable[Path]) -> list[Path]:
        """Those files that exist and are not, as they are now, what this program wrote."""
        return [path for path in paths if path.exists() and not self.is_own(path)]

    def require_own(self, paths: Iterable[Path], advice: str = "choose another --out, or give --overwrite") -> None:
        """Raise a DataError, with an advice, if a file exists that this program did not write."""
        foreign = self.foreign(paths)
        if foreign:
            shown = ", ".join(self._name(path) for path in foreign[:3]) + ", ..." * (len(foreign) > 3)
            raise DataError(
                f"{self.folder} holds {len(foreign)} files that vos-umec did not write, or that were changed "
                f"since, which would be replaced ({shown}): {advice}"
            )

    def is_own(self, path: Path) -> bool:
        """Whether a file is there and is what this program wrote."""
        known = self._digests.get(self._name(path))
        if not known or not path.is_file():
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() in known

    def write(self, path: Path, data: bytes) -> None:
        """Write a file; it appears complete or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
            self._note(path, hashlib.sha256(data).hexdigest())

    def adopt(self, temporary: Path, path: Path) -> None:
        """Give a file that is complete its final name."""
        with temporary.open("rb") as file:
            self._note(path, hashlib.file_digest(file, "sha256").hexdigest())
        temporary.replace(path)

    def _note(self, path: Path, digest: str) -> None:
        name = self._name(path)
        if digest in self._digests[name]:
            return
        self._digests[name].add(digest)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / RECORD).open("a", encoding="utf-8") as record:
            # The line break first: the last line may have been cut off.
            record.write(f"\n{digest} {json.dumps(name)}")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def single_file(path: Path, option: str, overwrite: bool) -> WrittenFiles:
    """The record in whose folder one file is to be written; call it before the work that the file is made of.

    Args:
        path: The file.
        option: The option that names it, for messages.
        overwrite: Whether a file that this program did not write may be replaced.

    Raises:
        ConfigError: The path is no place for a file.
        DataError: A file is there that this program did not write.
    """
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; name a file")
    if file := _file_in_the_way(path.parent):
        raise ConfigError(f"cannot write {path}: {file} is a file; name a file in a folder of yours")
    written = WrittenFiles(path.parent)
    if not overwrite and written.foreign([path]):
        raise DataError(
            f"{path} was not written by vos-umec, or was changed since, and would be replaced: choose another "
            f"{option}, or give --overwrite"
        )
    return written


def _file_in_the_way(folder: Path) -> Path | None:
    """The file that is where a folder, or one that holds it, is to be."""
    place = next((place for place in (folder, *folder.parents) if place.exists()), None)
    return None if place is None or place.is_dir() else place
