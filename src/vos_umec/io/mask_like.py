"""Which pictures are masks rather than frames, by their names and by what they show."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image

from vos_umec.io.endings import ending

# Words that tools and people put into the names of masks and of their folders, in the singular.
_WORDS = frozenset(
    {"alpha", "anno", "annot", "annotation", "groundtruth", "gt", "instance", "label", "labelid", "labelmap",
     "mask", "matte", "palette", "seg", "segm", "segmentation", "segmentationclass", "segmentationobject",
     "silhouette", "trainid", "trimap"}
)  # fmt: skip
_LOSSY = frozenset({".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"})
_FLAT = (
    0.9  # share of pixels that equal the one to their left: masks have 0.96 and more, 480p frames mostly under 0.3
)
_PLAIN = frozenset({"1", "L", "LA", "P", "PA", "I", "I;16"})
_NOISE = 3  # grey levels within which two pixels of a lossy picture are equal


def names_masks(name: str) -> bool:
    """Whether a name without its ending, of a file or a folder, holds a word for masks.

    Example:
        >>> [names_masks(name) for name in ("00000_mask", "firstMask", "ground_truth", "GT", "masked_ball")]
        [True, True, True, True, False]
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    pairs = [first + second for first, second in pairwise(words)]  # ground_truth
    return any(word.lower().removesuffix("s") in _WORDS for word in words + pairs)


def is_flat(pixels: npt.NDArray[np.generic], noise: int = 0) -> bool:
    """Whether a picture (H, W) or (H, W, C) consists of areas of one value, as masks do.

    Args:
        pixels: The picture.
        noise: Difference up to which two values are equal.
    """
    values = pixels.reshape(*pixels.shape[:2], -1).astype(np.int32)
    same = (np.abs(np.diff(values, axis=1)) <= noise).all(axis=-1)
    return bool(same.size) and float(same.mean()) > _FLAT


def pattern(path: PurePath) -> str:
    """The name of a file with # for each number: files of one series have one pattern.

    Example:
        >>> pattern(PurePath("frames/00012_mask.PNG"))
        '#_mask.png'
    """
    return re.sub(r"[0-9]+(?:[.,][0-9]+)*", "#", path.stem) + ending(path)


def mask_patterns(paths: Sequence[Path], look: Callable[[Path], tuple[bool, bool]]) -> tuple[str, ...]:
    """Patterns of the pictures in a folder of frames that are masks.

    A series whose name holds a word for masks is one, if other pictures remain; one of half the pictures
    or more only if it consists of flat areas. So is a lossless series of another pattern than the frames that
    consists of flat areas where the frames do not, or that is indexed or grey where they are not. If all pictures
    follow one pattern, they are frames, whatever they show.

    Args:
        paths: The pictures of the folder.
        look: Opens a picture: whether `is_flat`, and whether it is plain, that is, indexed or grey.

    Returns:
        Patterns in order; the files of these are masks.
    """
    series: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        series[pattern(path)].append(path)
    if len(series) == 1:
        return ()
    doubtful = {key for key in series if PurePath(key).suffix not in _LOSSY or names_masks(PurePath(key).stem)}
    looks = {key: [look(path) for path in samples(series[key])] for key in doubtful}
    flat = {key for key in doubtful if all(is_flat for is_flat, _ in looks[key])}
    plain = {key for key in flat if all(is_plain for _, is_plain in looks[key])}
    named = {key for key in doubtful if names_masks(PurePath(key).stem)}
    named -= {key for key in named - flat if 2 * len(series[key]) >= len(paths)}
    if named == series.keys():
        named = set()
    rest = series.keys() - named
    frames = rest - flat or rest - plain or rest
    return tuple(sorted(series.keys() - frames))


def samples(members: Sequence[Path]) -> list[Path]:
    """The first, the middle and the last of a series."""
    return [members[i] for i in sorted({0, len(members) // 2, len(members) - 1})]


def look_at(image: Image.Image) -> tuple[bool, bool]:
    """Whether an opened picture is flat, and whether it is plain: indexed, grey or black and white."""
    plain = image.mode in _PLAIN
    pixels = np.asarray(image if plain else image.convert("RGB"))
    return is_flat(pixels, 0 if image.format == "PNG" else _NOISE), plain
