"""The layout of the YouTube-VOS folders, and their meta.json. Imports no torch."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vos_umec.constants import IGNORE
from vos_umec.data.sequences import VideoSequence, find_masks, require_folder, subfolders
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.masks import read_mask
from vos_umec.io.source import open_source


def youtube_vos_sequences(
    root: str | Path, split: str = "train", all_frames: bool | None = None, videos: Collection[str] | None = None
) -> list[VideoSequence]:
    """Sequences of a YouTube-VOS folder: `<split>/JPEGImages`, `<split>/Annotations`, `<split>/meta.json`.

    An object is introduced by its mask on the first frame that `meta.json` lists for it; masks are required on all
    frames that `meta.json` lists for any object. Without `meta.json`, an object is introduced by the first mask
    that shows it, and masks are required on every frame of the usual download (every fifth frame).

    Args:
        root: Folder that holds the split, e.g. `train` and `valid`.
        split: Folder of the split.
        all_frames: Read every frame, from `<split>_all_frames/JPEGImages`, instead of every fifth; None to do so if
            that download exists.
        videos: Names of the videos to take; None for all annotated ones.

    Returns:
        One entry per annotated video, sorted by name.

    Raises:
        DataError: A folder or a video is missing, no video is annotated, a mask has no frame, or a required frame
            does not exist.

    Source:
        The layout of the YouTube-VOS download (youtube-vos.org).
    """
    root = Path(root)
    masks_root = root / split / "Annotations"
    require_folder(masks_root, "expected a YouTube-VOS root; check the path and the split")
    if all_frames is None:
        all_frames = (root / f"{split}_all_frames").is_dir()
    frames_root = youtube_vos_frames(root, split, all_frames)
    annotated = subfolders(masks_root)
    names = annotated if videos is None else sorted(set(videos))
    absent = sorted(set(names) - set(annotated))
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(names)} videos asked for have no masks in {masks_root} "
            f"({', '.join(absent[:3])}): check the list of videos"
        )
    if not names:
        raise DataError(f"no annotated video in {masks_root}: expected one folder of PNG masks per video")
    meta = youtube_vos_meta(root, split)
    sequences = []
    for name in names:
        frames, objects = frames_root / name, meta.get(name, {})
        annotations = find_masks(frames, masks_root / name)
        introduces = _introduces(annotations, objects)
        prompts = {index: annotations[index] for index in introduces}
        required = _required(frames, root / split / "JPEGImages" / name, objects)
        sequences.append(VideoSequence(name, frames, annotations, prompts, required, introduces))
    return sequences


def youtube_vos_frames(root: str | Path, split: str = "train", all_frames: bool = False) -> Path:
    """Folder of the frames of a split: `<split>/JPEGImages`, or with `all_frames` that of `<split>_all_frames`."""
    frames_root = Path(root) / (f"{split}_all_frames" if all_frames else split) / "JPEGImages"
    require_folder(frames_root, "expected a YouTube-VOS root; check the path and the split")
    return frames_root


@dataclass(frozen=True)
class ObjectMeta:
    """One object of a video.

    Attributes:
        frames: Names of the frames that are listed for it, in order; the mask of the first one introduces it.
        category: E.g. `giant_panda`; None if the file names none, as for the hidden splits.
    """

    frames: tuple[str, ...]
    category: str | None


Meta = Mapping[str, Mapping[int, ObjectMeta]]
"""Objects by the name of the video and the id of the object."""


def youtube_vos_meta(root: str | Path, split: str = "train") -> dict[str, dict[int, ObjectMeta]]:
    """Read `<root>/<split>/meta.json`.

    Returns:
        The objects that are listed on at least one frame; empty if there is no file.

    Raises:
        DataError: The file is not a meta.json of YouTube-VOS.
    """
    path = Path(root) / split / "meta.json"
    if not path.is_file():
        return {}
    try:
        videos = json.loads(path.read_bytes())["videos"]  # in UTF-8 or UTF-16
        return {
            name: {
                int(id_): ObjectMeta(tuple(sorted(item["frames"])), item.get("category"))
                for id_, item in video["objects"].items()
                if item["frames"]
            }
            for name, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not a YouTube-VOS meta.json ({error!r}): download it again, or remove it"
        ) from error


def unseen_categories(meta: Meta, held_out: Collection[str]) -> set[str]:
    """Categories that only held-out videos show, those that are not used for training.

    Example:
        >>> panda, dog = ObjectMeta(("00000",), "giant_panda"), ObjectMeta(("00000",), "dog")
        >>> unseen_categories({"a": {1: panda, 2: dog}, "b": {1: dog}}, held_out=["a"])
        {'giant_panda'}
    """
    shown = {name: {item.category for item in objects.values()} for name, objects in meta.items()}
    seen = set().union(*(shown[name] for name in shown if name not in held_out))
    return {category for categories in shown.values() for category in categories - seen if category is not None}


def require_categories(meta: Meta, categories: Collection[str]) -> None:
    """Raise a `ConfigError` unless each name is the category of an object."""
    unknown = set(categories) - {item.category for objects in meta.values() for item in objects.values()}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ConfigError(
            f"no video has the category {names}: expected categories of meta.json; check the spelling"
        )


def _introduces(annotations: Mapping[int, Path], objects: Mapping[int, ObjectMeta]) -> dict[int, tuple[int, ...]]:
    """Ids that are new on a frame: those `meta.json` lists, or else found by reading every mask."""
    introduces: dict[int, tuple[int, ...]] = {}
    index = {path.stem: i for i, path in annotations.items()}
    if objects and all(item.frames[0] in index for item in objects.values()):
        for id_, item in sorted(objects.items()):
            first = index[item.frames[0]]
            introduces[first] = (*introduces.get(first, ()), id_)
        return dict(sorted(introduces.items()))
    seen = {0, IGNORE}
    for i, path in annotations.items():
        new = set(np.unique(read_mask(path)).tolist()) - seen
        if new:
            introduces[i] = tuple(sorted(new))
            seen |= new
    return introduces


def _required(frames: Path, usual: Path, objects: Mapping[int, ObjectMeta]) -> tuple[int, ...]:
    """Frames whose masks are required: those `meta.json` lists, or else those of the usual download."""
    if not objects and frames == usual:
        return ()
    required = {name for item in objects.values() for name in item.frames} or set(open_source(usual).names)
    names = open_source(frames).names
    absent = sorted(required - set(names))
    if absent:
        raise DataError(
            f"{len(absent)} required frames of {frames.name} are not in {frames}, first {absent[0]}: "
            "unpack the download again"
        )
    return tuple(i for i, name in enumerate(names) if name in required)
