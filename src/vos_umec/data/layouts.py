"""Where the DAVIS and YouTube-VOS folders keep frames and masks. Imports no torch: light commands use it."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vos_umec.data.youtube_meta import ObjectMeta, youtube_vos_meta
from vos_umec.errors import DataError
from vos_umec.io.masks import Ids, read_mask
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
        introduces: The ids that each given mask may tell of; a frame that is not in it tells of all it shows.
            Where every frame is annotated, a late mask would otherwise give away the objects known before.

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
    introduces: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def given_masks(self) -> dict[int, Ids]:
        """Read what a semi-supervised method may see.

        Returns:
            Masks (H, W) uint8 by frame index: the objects that the frame introduces, 0 (nothing said) elsewhere.

        Raises:
            MaskError: A mask cannot be read as object ids.
        """
        masks = {index: read_mask(path) for index, path in self.given.items()}
        for index, ids in self.introduces.items():
            masks[index] = np.where(np.isin(masks[index], ids), masks[index], 0).astype(np.uint8)
        return masks

    def required_names(self) -> list[str]:
        """Names of the frames whose predicted masks are asked for, in order, without suffix.

        Raises:
            VideoReadError: The frames cannot be read.
        """
        names = self.source().names
        return [names[index] for index in self.required] if self.required else names

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


def youtube_vos_sequences(
    root: str | Path,
    split: str = "train",
    all_frames: bool | None = None,
    videos: Collection[str] | None = None,
) -> list[VideoSequence]:
    """Sequences of a YouTube-VOS folder: ``<split>/JPEGImages``, ``<split>/Annotations``, ``meta.json``.

    An object is introduced by its mask on the first frame that ``meta.json`` lists it on, and the frames asked
    for are those on which ``meta.json`` lists any object. Where it does not tell, the first mask that shows an
    object introduces it, and every frame of the usual download (every fifth) is asked for.

    Args:
        root: Folder that holds the split, e.g. ``train`` and ``valid``.
        split: Folder of the split.
        all_frames: Read the frames from ``<split>_all_frames/JPEGImages`` (every frame) instead of every
            fifth; None for where that download is.
        videos: Names of the videos to take; None for all that are annotated.

    Returns:
        One entry per annotated video, sorted by name.

    Raises:
        DataError: A folder or a video is missing, no video is annotated, a mask has no frame, or ``meta.json``
            lists a frame that is not there.

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
    if all_frames is None:
        all_frames = (root / f"{split}_all_frames").is_dir()
    frames_root = youtube_vos_frames(root, split, all_frames)
    annotated = _folders(masks_root)
    absent = sorted(set(videos or ()) - set(annotated))
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(set(videos or ()))} videos asked for have no masks in {masks_root} "
            f"({', '.join(absent[:3])}): check the list of videos"
        )
    meta = youtube_vos_meta(root, split)
    sequences = []
    for name in annotated if videos is None else sorted(set(videos)):
        frames, objects = frames_root / name, meta.get(name, {})
        annotations = _annotations(frames, masks_root / name)
        introduces = _introduces(annotations, objects)
        given = {index: annotations[index] for index in introduces}
        required = _required(frames, root / split / "JPEGImages" / name, objects)
        sequences.append(VideoSequence(name, frames, annotations, given, required, introduces))
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


def _introduces(annotations: Mapping[int, Path], objects: Mapping[int, ObjectMeta]) -> dict[int, tuple[int, ...]]:
    """Ids that are new on a frame: by the frames ``meta.json`` gives, else found by reading every mask."""
    introduces: dict[int, tuple[int, ...]] = {}
    index = {path.stem: i for i, path in annotations.items()}
    if objects and all(item.frames[0] in index for item in objects.values()):
        for id_, item in sorted(objects.items()):
            introduces[index[item.frames[0]]] = (*introduces.get(index[item.frames[0]], ()), id_)
        return dict(sorted(introduces.items()))
    seen = {0, 255}  # background, and "nothing known"
    for i, path in annotations.items():
        new = set(np.unique(read_mask(path)).tolist()) - seen
        if new:
            introduces[i] = tuple(sorted(new))
            seen |= new
    return introduces


def _required(frames: Path, usual: Path, objects: Mapping[int, ObjectMeta]) -> tuple[int, ...]:
    """Frames whose masks are asked for: those ``meta.json`` lists, else those of the usual download."""
    if not objects and frames == usual:
        return ()
    asked = {name for item in objects.values() for name in item.frames} or set(open_source(usual).names)
    names = open_source(frames).names
    absent = sorted(asked - set(names))
    if absent:
        raise DataError(
            f"the mask of {frames.name}/{absent[0]} is asked for, but {frames} has no frame of that name "
            f"({len(absent)} such): unpack the download again"
        )
    return tuple(i for i, name in enumerate(names) if name in asked)
