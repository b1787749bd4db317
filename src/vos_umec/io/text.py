"""Reads the small text files of strangers: lists, label maps, JSON; knows the pointers of Git LFS."""

import codecs
from pathlib import Path
from typing import BinaryIO

LFS_ADVICE = "it is a pointer of Git LFS, whose content was not fetched: run `git lfs pull`"


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16.

    Raises:
        OSError: It is no file. A pipe or a device is none: it may never end.
        UnicodeDecodeError: It is no such text.
    """
    if not path.is_file():
        raise FileNotFoundError("it is no file" if path.exists() else "there is no such file")
    return decode_text(path.read_bytes())


def decode_text(data: bytes) -> str:
    r"""Text in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        UnicodeDecodeError: It is neither.

    Example:
        >>> decode_text(b"\xef\xbb\xbfdog"), decode_text("dog".encode("utf-16")), decode_text(b"d\0o\0g\0")
        ('dog', 'dog', 'dog')
    """
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return data.decode("utf-32")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data[:100]:  # no text in UTF-8 has such bytes; in UTF-16 they are every second one
        return data.decode("utf-16-be" if data.startswith(b"\0") else "utf-16-le")
    return data.decode("utf-8-sig")


def is_lfs_pointer(file: Path | BinaryIO) -> bool:
    """Whether a file holds no content of its own, but says where Git LFS keeps it."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return is_lfs_pointer(opened)
    file.seek(0)
    return file.read(30).startswith(b"version https://git-lfs")
