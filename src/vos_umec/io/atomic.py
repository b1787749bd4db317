"""Write a file or a folder whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` when the block ends well.

    A reader sees the old file or the new one, never half of one. The folder is made if it is missing. When
    the block raises, the temporary file is removed and ``path`` stays as it was.

    Args:
        path: The file to be written.

    Yields:
        The temporary name, hidden and of this process alone.

    Raises:
        OSError: The folder cannot be written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "new" / "a.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text(), len(list(target.parent.iterdir()))
        ('whole', 1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number alone: containers that share a disk often have the same.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty temporary folder beside ``path``; rename it to ``path`` when the block ends well.

    A reader sees the old folder, for a moment none, then the new one, never half of one. When the block raises, the
    temporary folder is removed; what a killed process left behind is removed by the next one that writes the same
    folder. Two processes must not write the same folder at a time.

    Args:
        path: The folder to be written; the one that is there is replaced.

    Yields:
        The temporary folder, hidden.

    Raises:
        OSError: It cannot be written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "new" / "frames"
        >>> for text in ("first", "second"):
        ...     with atomic_folder(target) as temporary:
        ...         _ = (temporary / "a.txt").write_text(text)
        >>> (target / "a.txt").read_text(), len(list(target.parent.iterdir()))
        ('second', 1)
    """
    path = Path(path)
    temporary, old = (path.with_name(f".{path.name}.{kind}") for kind in ("tmp", "old"))
    for left_behind in (temporary, old):
        shutil.rmtree(left_behind, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    finally:
        if old.exists() and not path.exists():  # stopped between the two
            old.replace(path)
        for left_behind in (temporary, old):
            shutil.rmtree(left_behind, ignore_errors=True)
