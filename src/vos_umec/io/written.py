"""A folder's record of what this program wrote into it, so that nothing else is ever replaced."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vos_umec.errors import DataError
from vos_umec.io.atomic import atomic_path

RECORD = ".vos_umec_written"


class WrittenFiles:
    """Writes files into a folder, and knows its own by their content.

    The record has a line for each file: the digest of its bytes, and its name in JSON, as a name may hold line
    breaks. A file that somebody has changed since is not this program's any more. A line is added before its file
    appears, so a process that is killed leaves no file without its line.

    Args:
        folder: The folder; it is created when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._digests: dict[str, set[str]] = defaultdict(set)
        record = folder / RECORD
        if record.is_file():
            for line in record.read_text(encoding="utf-8", errors="replace").splitlines():
                digest, _, name = line.partition(" ")
                with suppress(ValueError):  # a line that was cut off
                    self._digests[str(json.loads(name))].add(digest)

    def foreign(self, paths: Iterable[Path]) -> list[Path]:
        """Those files that exist and are not, as they are now, what this program wrote."""
        return [path for path in paths if path.exists() and not self.is_own(path)]

    def require_own(self, paths: Iterable[Path]) -> None:
        """Raise a DataError if a file exists that this program did not write."""
        foreign = self.foreign(paths)
        if foreign:
            shown = ", ".join(self._name(path) for path in foreign[:3]) + ", ..." * (len(foreign) > 3)
            raise DataError(
                f"{self.folder} holds {len(foreign)} files that vos-umec did not write, or that were changed "
                f"since, which would be replaced ({shown}): choose another --out, or give --overwrite"
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
