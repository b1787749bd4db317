"""Annotated videos, and what the folders of DAVIS and YouTube-VOS have in common. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

import numpy as np

from vos_umec.errors import DataError
from vos_umec.io.masks import Ids, read_mask
from vos_umec.io.source import FrameSource, open_source
from vos_umec.io.text import decode_text

# Around a name: blanks, byte order marks of files that were joined, marks of no width, the end mark of DOS.
_BLANK = " \t\r\n\f\v\x00\x1a\xa0\u200b\u200e\u2060\ufeff"


@dataclass(frozen=True)
class VideoSequence:
    """One annotated video of a data set. Frame indices start at 0, in the order of `source().names`.

    Attributes:
        name: Name of the sequence, e.g. `blackswan`.
        path: Folder of frames, or a video file.
        annotations: Every mask of the video: frame index to indexed PNG.
        prompts: The masks that a semi-supervised method may use, a part of `annotations`: the first one (DAVIS),
            or each that introduces an object (YouTube-VOS).
        required: Indices of the frames whose masks have to be predicted; empty for all frames.
        introduces: The ids that may be read from a prompt, by frame index. A frame that is not listed shows all
            its ids. A later mask may also show earlier objects; to read those again would help the method unfairly.
    """

    name: str
    path: Path
    annotations: Mapping[int, Path]
    prompts: Mapping[int, Path]
    required: tuple[int, ...] = ()
    introduces: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def prompt_masks(self) -> dict[int, Ids]:
        """Read the prompts: masks (H, W) uint8 by frame index, 0 outside the objects that the frame introduces."""
        masks = {index: read_mask(path) for index, path in self.prompts.items()}
        for index, ids in self.introduces.items():
            masks[index] = np.where(np.isin(masks[index], ids), masks[index], 0).astype(np.uint8)
        return masks

    def required_names(self) -> list[str]:
        """Names, without suffix and in order, of the frames whose masks have to be predicted."""
        names = self.source().names
        return [names[index] for index in self.required] if self.required else names

    def source(self) -> FrameSource:
        """Open the frames, as `open_source` does."""
        return open_source(self.path)


def find_masks(frames: Path, masks: Path) -> dict[int, Path]:
    """Find the PNG masks of a folder of frames, by frame index; a mask belongs to the frame of the same name.

    Raises:
        DataError: A folder is missing, or a mask has no frame.
    """
    require_folder(masks, f"expected the masks of {frames.name}, one PNG per annotated frame")
    index = {name: i for i, name in enumerate(open_source(frames).names)}
    found = sorted(path for path in masks.glob("*.png") if not path.name.startswith("."))
    unknown = [path.name for path in found if path.stem not in index]
    if unknown:
        raise DataError(
            f"{len(unknown)} masks of {masks} have no frame of the same name in {frames}, first {unknown[0]}: "
            "unpack the frames again, or remove these masks"
        )
    return {index[path.stem]: path for path in found}


def require_folder(folder: Path, hint: str) -> None:
    """Raise a `DataError` with the hint unless the folder exists."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: {hint}")


def subfolders(root: Path) -> list[str]:
    """Sorted names of the folders in a folder, without hidden ones."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_names(path: str | Path) -> list[str]:
    """Read a text file of names (of videos or of categories), one per line; empty lines are ignored.

    The file is UTF-8, or UTF-16 as Windows writes it, with any line ends. A slash behind a name is dropped.

    Raises:
        DataError: There is no such text file, it holds no name, or a name leads out of the folder of the videos.
    """
    try:
        lines = decode_text(Path(path).read_bytes()).splitlines()
    except OSError as error:
        raise DataError(f"no list at {path}: expected a text file with one name per line") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 or UTF-16 ({error.reason}): save it as UTF-8") from error
    names = [name for line in lines if (name := line.strip(_BLANK).rstrip("/\\"))]
    if not names:
        raise DataError(f"the list {path} is empty: expected one name per line")
    for name in names:
        require_inside(name, path)
    return names


def require_inside(name: str, listed: str | Path) -> None:
    """Refuse the name of a video with which a file would be read or written outside the folder of the videos.

    Args:
        name: A name, which may hold slashes.
        listed: The file that lists it, for the message.

    Raises:
        DataError: It is an absolute path or has a part "..".
    """
    parts = PureWindowsPath(name)  # it takes both kinds of slashes
    if parts.is_absolute() or parts.drive or parts.root or ".." in parts.parts or "\0" in name:
        raise DataError(f"{listed} lists {name!r}, which leads out of the folder of the videos: remove it")
