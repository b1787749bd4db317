"""Where the DAVIS and YouTube-VOS folders keep frames and masks. Imports no torch: light commands use it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vos_umec.errors import DataError
from vos_umec.io.masks import read_mask
from vos_umec.io.source import FrameSource, open_source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoSequence:
    """One annotated video of a data set.

    Args:
        name: Name of the sequence, e.g. ``blackswan``.
        path: Folder of frames, or a video file.
        annotations: Every mask there is: frame index (0-based, in the order of ``source().names``) to
            indexed PNG.
        given: The masks a semi-supervised method may see, a part of ``annotations``: the first frame (DAVIS),
            every mask that introduces an object (YouTube-VOS).
        required: Frame indices whose predicted masks are asked for; empty means all of them.

    Example:
        >>> masks = {0: Path("dog/00000.png"), 1: Path("dog/00001.png")}
        >>> dog = VideoSequence("dog", Path("frames/dog"), annotations=masks, given={0: masks[0]})
        >>> sorted(dog.given), len(dog.annotations)
        ([0], 2)
    """

    name: str
    path: Path
    annotations: Mapping[int, Path]
    given: Mapping[int, Path]
    required: tuple[int, ...] = ()

    def source(self) -> FrameSource:
        """Open the frames.

        Returns:
            A new reader; open it in the process that reads.

        Raises:
            VideoReadError: The frames cannot be read.
        """
        return open_source(self.path)


def davis_sequences(
    root: str | Path, split: str = "val", year: str = "2017", resolution: str = "480p"
) -> list[VideoSequence]:
    """Sequences of a DAVIS folder: ``JPEGImages/480p``, ``Annotations/480p``, ``ImageSets/2017/val.txt``.

    A folder without the resolution level (``JPEGImages/<sequence>``) is read as well; it needs no
    ``ImageSets``, and without one every sequence of it is taken.

    Args:
        root: Folder that holds ``JPEGImages``.
        split: Name of the list below ``ImageSets/<year>``: ``train``, ``val``, ``test-dev``, ...
        year: Folder of the list.
        resolution: Folder below ``JPEGImages`` and ``Annotations``.

    Returns:
        One entry per sequence, in the order of the list.

    Raises:
        DataError: A folder, the list, a sequence or its first mask is missing, or a mask has no frame.

    Source:
        The layout of the DAVIS 2017 download (davischallenge.org).

    Example:
        >>> davis_sequences("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder/JPEGImages: expected ...
    """
    root = Path(root)
    frames_root, masks_root = root / "JPEGImages", root / "Annotations"
    _require_folder(frames_root, "expected a DAVIS root with JPEGImages and Annotations; check the path")
    nested = (frames_root / resolution).is_dir()
    if nested:
        frames_root, masks_root = frames_root / resolution, masks_root / resolution
    _require_folder(masks_root, "expected the masks beside JPEGImages; check the path and the resolution")
    listing = root / "ImageSets" / year / f"{split}.txt"
    if listing.is_file():
        names = listing.read_text(encoding="utf-8").split()
    elif nested or (root / "ImageSets").is_dir():
        raise DataError(_missing_list(listing))
    else:
        names = _folders(frames_root)
        log.info("%s has no ImageSets: taking all of its %d sequences", root, len(names))
    if not names:
        raise DataError(f"no sequence in {listing if listing.is_file() else frames_root}: expected at least one")
    sequences = []
    for name in names:
        annotations = _annotations(frames_root / name, masks_root / name)
        if 0 not in annotations:
            raise DataError(f"no mask of the first frame in {masks_root / name}: DAVIS gives one to every sequence")
        sequences.append(VideoSequence(name, frames_root / name, annotations, given={0: annotations[0]}))
    return sequences


def youtube_vos_sequences(root: str | Path, split: str = "train", all_frames: bool = False) -> list[VideoSequence]:
    """Sequences of a YouTube-VOS folder: ``<split>/JPEGImages``, ``<split>/Annotations``, ``meta.json``.

    Which masks introduce an object is read from ``meta.json`` where it is there, else from the masks.

    Args:
        root: Folder that holds the split, e.g. ``train`` and ``valid``.
        split: Folder of the split.
        all_frames: Read the frames from ``<split>_all_frames/JPEGImages`` (every frame) instead of every
            fifth; ``required`` then names the frames of the usual download, which the server asks for.

    Returns:
        One entry per annotated video, sorted by name.

    Raises:
        DataError: A folder is missing, no video is annotated, or a mask has no frame.

    Source:
        The layout of the YouTube-VOS download (youtube-vos.org).

    Example:
        >>> youtube_vos_sequences("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder/train/Annotations: expected ...
    """
    root = Path(root)
    masks_root = root / split / "Annotations"
    _require_folder(masks_root, "expected a YouTube-VOS root; check the path and the split")
    frames_root = youtube_vos_frames(root, split, all_frames)
    meta = _meta(root / split / "meta.json")
    sequences = []
    for name in _folders(masks_root):
        annotations = _annotations(frames_root / name, masks_root / name)
        given = _given(annotations, meta.get(name, set()))
        required: tuple[int, ...] = ()
        if all_frames:
            asked = set(open_source(root / split / "JPEGImages" / name).names)
            names = open_source(frames_root / name).names
            required = tuple(i for i, stem in enumerate(names) if stem in asked)
        sequences.append(VideoSequence(name, frames_root / name, annotations, given, required))
    if not sequences:
        raise DataError(f"no annotated video in {masks_root}: expected one folder of PNG masks per video")
    return sequences


def youtube_vos_frames(root: str | Path, split: str = "train", all_frames: bool = False) -> Path:
    """Folder of the frames of a YouTube-VOS split.

    Args:
        root: Folder that holds the split.
        split: Folder of the split.
        all_frames: The separate download that has every frame, not every fifth.

    Returns:
        ``root/<split>/JPEGImages``, or with ``all_frames`` the one of ``<split>_all_frames``.

    Raises:
        DataError: There is no such folder.

    Example:
        >>> youtube_vos_frames("no/such/folder", "valid")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder/valid/JPEGImages: expected ...
    """
    root = Path(root)
    frames_root = root / (f"{split}_all_frames" if all_frames else split) / "JPEGImages"
    _require_folder(frames_root, "expected a YouTube-VOS root; check the path and the split")
    return frames_root


def _require_folder(folder: Path, hint: str) -> None:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: {hint}")


def _missing_list(listing: Path) -> str:
    there = sorted(path.stem for path in listing.parent.glob("*.txt")) if listing.parent.is_dir() else []
    found = f"found the splits {', '.join(there)}" if there else f"found no list in {listing.parent}"
    return f"no split file {listing}: {found}; choose one of them or add the file"


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _annotations(frames: Path, masks: Path) -> dict[int, Path]:
    """Masks by frame index; a mask counts for the frame of the same name."""
    _require_folder(masks, f"expected the masks of {frames.name}, one PNG per annotated frame")
    index = {name: i for i, name in enumerate(open_source(frames).names)}
    found = sorted(path for path in masks.glob("*.png") if not path.name.startswith("."))
    unknown = [path.name for path in found if path.stem not in index]
    if unknown:
        raise DataError(f"mask {masks / unknown[0]} has no frame of that name in {frames} ({len(unknown)} such)")
    return {index[path.stem]: path for path in found}


def _meta(path: Path) -> dict[str, set[str]]:
    """Name of each video to the names of the frames on which one of its objects is first listed."""
    if not path.is_file():
        return {}
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        return {
            name: {min(item["frames"]) for item in video["objects"].values() if item["frames"]}
            for name, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a YouTube-VOS meta.json ({error!r}): download it again, or remove it"
        ) from error


def _given(annotations: Mapping[int, Path], introduced: set[str]) -> dict[int, Path]:
    """Masks that introduce an object: by the names ``meta.json`` gives, else found by reading every mask."""
    if introduced and introduced <= {path.stem for path in annotations.values()}:
        return {i: path for i, path in annotations.items() if path.stem in introduced}
    seen = {0, 255}  # background, and "nothing known"
    given = {}
    for i, path in annotations.items():
        ids = set(np.unique(read_mask(path)).tolist())
        if not ids <= seen:
            given[i] = path
            seen |= ids
    return given
