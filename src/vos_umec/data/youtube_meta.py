"""meta.json of YouTube-VOS: the objects of each video, their frames and categories. And what is held out by it."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from vos_umec.errors import ConfigError, DataError


@dataclass(frozen=True)
class ObjectMeta:
    """One object of a video.

    Attributes:
        frames: Names of the frames it is listed on, in order; the first one has the mask that introduces it.
        category: E.g. ``giant_panda``; None where the file gives none, as for the hidden splits.

    Example:
        >>> ObjectMeta(frames=("00005", "00010"), category="giant_panda").frames[0]
        '00005'
    """

    frames: tuple[str, ...]
    category: str | None


Meta = Mapping[str, Mapping[int, ObjectMeta]]  # by name of the video, by id of the object


def youtube_vos_meta(root: str | Path, split: str = "train") -> dict[str, dict[int, ObjectMeta]]:
    """Read ``<root>/<split>/meta.json``.

    Args:
        root: Folder that holds the split.
        split: Folder of the split.

    Returns:
        The objects that are listed on a frame, by the name of their video and their id; empty without a file.

    Raises:
        DataError: The file is none of YouTube-VOS.

    Example:
        >>> youtube_vos_meta("no/such/folder")
        {}
    """
    path = Path(root) / split / "meta.json"
    if not path.is_file():
        return {}
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        return {
            name: {
                int(id_): ObjectMeta(tuple(sorted(item["frames"])), item.get("category"))
                for id_, item in video["objects"].items()
                if item["frames"]
            }
            for name, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a YouTube-VOS meta.json ({error!r}): download it again, or remove it"
        ) from error


def unseen_categories(meta: Meta, held_out: Collection[str]) -> set[str]:
    """Categories that no video shows but the held-out ones.

    Args:
        meta: What `youtube_vos_meta` read.
        held_out: Names of the videos that are not trained on.

    Returns:
        Names of categories; all of them where every video is held out.

    Example:
        >>> panda, dog = ObjectMeta(("00000",), "giant_panda"), ObjectMeta(("00000",), "dog")
        >>> unseen_categories({"a": {1: panda, 2: dog}, "b": {1: dog}}, held_out=["a"])
        {'giant_panda'}
    """
    shown = {name: {item.category for item in objects.values()} for name, objects in meta.items()}
    seen = set().union(*(shown[name] for name in shown if name not in held_out))
    return {category for categories in shown.values() for category in categories - seen if category is not None}


def require_categories(meta: Meta, categories: Collection[str]) -> None:
    """Refuse names that are no category of any object.

    Args:
        meta: What `youtube_vos_meta` read.
        categories: The names.

    Raises:
        ConfigError: One is none.

    Example:
        >>> require_categories({}, ["gaint_panda"])
        Traceback (most recent call last):
        ...
        vos_umec.errors.ConfigError: no video has the category gaint_panda: expected categories of meta.json
    """
    unknown = set(categories) - {item.category for objects in meta.values() for item in objects.values()}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ConfigError(f"no video has the category {names}: expected categories of meta.json")


def read_names(path: str | Path) -> list[str]:
    """Read a text file of names, one a line: of videos or of categories.

    Args:
        path: The file; empty lines are passed over.

    Returns:
        The names, in order.

    Raises:
        DataError: There is no such text file, or no name in it.

    Example:
        >>> read_names("no/such.txt")
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no list at no/such.txt: expected a text file with one name a line
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"no list at {path}: expected a text file with one name a line") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"the list {path} is empty: expected one name a line")
    return names
