"""The layout of the DAVIS folders. Imports no torch."""

import logging
from pathlib import Path

from vos_umec.data.sequences import VideoSequence, find_masks, read_names, require_folder, subfolders
from vos_umec.errors import DataError

log = logging.getLogger(__name__)


def davis_sequences(root: str | Path, split: str = "val") -> list[VideoSequence]:
    """Sequences of a DAVIS folder: `JPEGImages/480p`, `Annotations/480p`, `ImageSets/2017/val.txt`.

    A folder without the level `480p` (`JPEGImages/<sequence>`) works too. If it has no `ImageSets` either, all its
    sequences are taken.

    Args:
        root: Folder that holds `JPEGImages`.
        split: Name of the list below `ImageSets/2017`: `train`, `val`, `test-dev`, ...

    Returns:
        One entry per sequence, in the order of the list. The prompt is the mask of the first frame.

    Raises:
        DataError: A folder, the list, a sequence or its first mask is missing, or a mask has no frame.

    Source:
        The layout of the DAVIS 2017 download (davischallenge.org).
    """
    root = Path(root)
    frames_root, masks_root = root / "JPEGImages", root / "Annotations"
    require_folder(frames_root, "expected a DAVIS root with JPEGImages and Annotations; check the path")
    nested = (frames_root / "480p").is_dir()
    if nested:
        frames_root, masks_root = frames_root / "480p", masks_root / "480p"
    require_folder(masks_root, "expected the masks beside JPEGImages; check the path")
    sequences = []
    for name in _names(root, split, frames_root, nested):
        annotations = find_masks(frames_root / name, masks_root / name)
        if 0 not in annotations:
            raise DataError(
                f"no mask of the first frame in {masks_root / name}: it is the prompt; unpack the download again"
            )
        sequences.append(VideoSequence(name, frames_root / name, annotations, prompts={0: annotations[0]}))
    return sequences


def _names(root: Path, split: str, frames_root: Path, nested: bool) -> list[str]:
    """Names of the sequences: those of the list, or of all folders of a root that has no lists."""
    listing = root / "ImageSets" / "2017" / f"{split}.txt"
    if listing.is_file():
        return read_names(listing)
    if nested or (root / "ImageSets").is_dir():
        splits = sorted(path.stem for path in listing.parent.glob("*.txt"))
        found = f"found the splits {', '.join(splits)}" if splits else f"found no list in {listing.parent}"
        raise DataError(f"no split file {listing}: {found}; choose one of them or add the file")
    names = subfolders(frames_root)
    if not names:
        raise DataError(f"no sequence in {frames_root}: expected one folder of frames per sequence")
    log.info("%s has no ImageSets: taking all of its %d sequences", root, len(names))
    return names
