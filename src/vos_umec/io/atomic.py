"""Write a file or a folder completely or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; it is renamed to `path` when the block ends without an error.

    Readers see the old file or the new one, never an incomplete one. The folder is created if needed. If the block
    raises, the temporary file is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id alone is not unique: processes in containers that share a disk may have the same.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it replaces `path` when the block ends without an error.

    Readers see the old folder, for a moment none, then the new one, never an incomplete one. If the block raises,
    the temporary folder is removed. The leftovers of a killed process are removed by the next one that writes the
    same folder. Two processes must not write the same folder at the same time.
    """
    path = Path(path)
    temporary, old = _beside(path)
    remove_leftovers(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    finally:
        if old.exists() and not path.exists():  # interrupted between the two renames
            old.replace(path)
        remove_leftovers(path)


def remove_leftovers(path: Path) -> None:
    """Remove what a killed process that wrote a folder by `atomic_folder` left beside it."""
    for left_behind in _beside(path):
        shutil.rmtree(left_behind, ignore_errors=True)


def _beside(path: Path) -> tuple[Path, Path]:
    """The names of a folder's new version and of its old one, while it is replaced."""
    return path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
