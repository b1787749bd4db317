"""The masks that a user gives to a command: which frames they are of, which objects they show, what is unknown."""

import hashlib
import logging
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vos_umec.constants import IGNORE
from vos_umec.errors import ConfigError, MaskError
from vos_umec.io.frame_names import frame_index, frame_of_file
from vos_umec.io.label_file import COLOR, MaskReading, color_name
from vos_umec.io.labelmap import read_labelmap
from vos_umec.io.labels import MOST_OBJECTS, UNKNOWN, LabelImage, read_label_image
from vos_umec.io.masks import Ids, require_mask_file
from vos_umec.io.picture import open_picture
from vos_umec.io.png import DAVIS_COLORS, davis_palette, voc_palette
from vos_umec.io.shapes import read_shapes
from vos_umec.io.source import FrameSource

log = logging.getLogger(__name__)

READING = {"how to read a mask, where it leaves that open": (MaskReading,)}
"""Options of a command that takes masks."""

_FILE = 1 << 40  # a label of this and more is an object that has a file for itself


@dataclass(frozen=True)
class GivenMask:
    """One mask file of a user, on its frame.

    Attributes:
        path: The file.
        index: The index of its frame.
        image: What it shows.
    """

    path: Path
    index: int
    image: LabelImage


@dataclass(frozen=True)
class Prompts:
    """What a user gave, understood.

    Attributes:
        masks: Ids (H, W) uint8 by frame index, ascending.
        origins: What an id was in the files, where that is not the same number: a color, a larger number, a name.
        files: The files.
        lines: What was understood, one line for each frame.
    """

    masks: Mapping[int, Ids]
    origins: Mapping[int, str]
    files: tuple[Path, ...]
    lines: tuple[str, ...]

    @property
    def first(self) -> int:
        """The index of the first frame with a mask."""
        return min(self.masks)

    def digest(self) -> str:
        """A text that tells these masks from others."""
        content = hashlib.sha256()
        for index, mask in self.masks.items():
            content.update(f"{index} {mask.shape} ".encode() + mask.tobytes())
        return content.hexdigest()


def split_reading(settings: Mapping[str, Any]) -> tuple[MaskReading, dict[str, Any]]:
    """The options of `READING`, and all others."""
    names = {field.name for field in fields(MaskReading)}
    own = {name: value for name, value in settings.items() if name in names}
    return MaskReading(**own), {name: value for name, value in settings.items() if name not in names}


def read_prompts(
    video: Path,
    source: FrameSource,
    masks: Sequence[str],
    objects: Sequence[str] = (),
    frame: str | None = None,
    ids: Sequence[str] = (),
    reading: MaskReading | None = None,
) -> Prompts:
    """Read the masks of a user and check them, before any work is done.

    Args:
        video: The video, for messages.
        source: The same, opened.
        masks: Files, or FRAME=FILE. Without a frame, the name of the file may say which; else it is the first.
        objects: Files of one object each, or ID=FILE.
        frame: The frame of all masks that do not say their own: a name or an index.
        ids: The objects to follow, as the files call them; all without any.
        reading: What the files leave open.

    Raises:
        MaskError: A file cannot be read, may mean more than one thing, or does not fit the video.
        ConfigError: Arguments contradict each other.
    """
    reading, names = reading or MaskReading(), source.names
    require_files(masks, objects, reading)
    given: list[GivenMask] = []
    for word in masks:
        where, path = _split(word)
        is_json = path.suffix.lower() == ".json"
        images = read_shapes(path) if is_json else [_picture(path, video, source.size, reading)]
        for image in images:
            several = len(masks) + len(objects) + len(images) > 2
            index = _index(names, path, video, where or None, frame, image.frame, several)
            given.append(GivenMask(path, index, image))
    taken: set[str] = set()
    for place, word in enumerate(objects, start=1):
        number, path = _split(word)
        if number and number in taken:
            raise ConfigError(f"--object {word}: id {number} is given twice; give each object an id of its own")
        taken.add(number)
        if number and not (number.isdigit() and 0 < int(number) <= MOST_OBJECTS):
            raise ConfigError(f"--object {word}: expected ID=FILE with an id of 1 to {MOST_OBJECTS}")
        image = _one_object(_picture(path, video, source.size, reading), int(number or place), path)
        given.append(GivenMask(path, _index(names, path, video, None, frame, None, True), image))
    given = [_fitted(one, video, source.size, reading) for one in given]
    labels, called = _merged(given)
    if ids:
        labels = _chosen(labels, called, ids)
    numbers = _numbers(
        sorted({label for image in labels.values() for label in np.unique(image).tolist() if label > 0})
    )
    result = {index: _as_ids(labels[index], numbers) for index in sorted(labels)}
    origins = {i: called.get(label, str(label)) for label, i in numbers.items() if called.get(label) or label != i}
    lines = tuple(_line(names, index, mask, given, origins) for index, mask in result.items())
    return Prompts(result, origins, tuple(one.path for one in given), lines)


def require_files(masks: Sequence[str], objects: Sequence[str], reading: MaskReading) -> None:
    """Check, before the video is decoded, that the files are there; arguments and errors as of `read_prompts`."""
    if not masks and not objects:
        raise ConfigError("give a mask of at least one frame: --mask FILE")
    for word in (*masks, *objects):
        require_mask_file(_split(word)[1])
    if reading.labelmap is not None:
        read_labelmap(reading.labelmap)


def _split(word: str) -> tuple[str, Path]:
    """What stands before the = of a word, and the file."""
    before, equals, path = word.partition("=")
    return ("", Path(word)) if not equals or Path(word).exists() else (before, Path(path))


def _index(
    names: Sequence[str],
    path: Path,
    video: Path,
    where: str | None,
    frame: str | None,
    said: str | None,
    several: bool,
) -> int:
    """The frame of a mask."""
    if where is not None:
        return frame_index(names, where)
    if frame is None:
        for stem in (said, path.stem):
            found = (
                None if stem is None else frame_of_file(names, stem, video.name if video.is_dir() else video.stem)
            )
            if found is not None:
                return found
        return 0
    chosen = frame_index(names, frame)
    named = said or path.stem
    if named in names and names[chosen] != named:
        if several:
            raise ConfigError(
                f"--frame {frame} is the frame of all masks, and {path} is named for frame {named}: leave --frame "
                "out, or give --mask FRAME=FILE"
            )
        log.warning("%s is named for frame %s, and is used for %s, as --frame says", path, named, names[chosen])
    return chosen


def _one_object(image: LabelImage, number: int, path: Path) -> LabelImage:
    """All objects of a file as one."""
    labels = np.where(image.labels > 0, number, image.labels)
    return replace(image, labels=labels, names={number: path.name})


def _require_size(path: Path, shape: tuple[int, ...], video: Path, size: tuple[int, int], resized: bool) -> None:
    """Raise a MaskError if a mask of `shape` (H, W) fits no video of `size`."""
    if shape == size:
        return
    found = f"{path} has {shape} pixels (H, W), {video} has {size}"
    if shape == size[::-1]:
        raise MaskError(f"{found}: it is turned by a quarter; turn it as the video is displayed")
    if not resized:
        raise MaskError(f"{found}; give the mask at the video's size, or --resize_mask if it shows the whole frame")


def _picture(path: Path, video: Path, size: tuple[int, int], reading: MaskReading) -> LabelImage:
    """Read a picture; a wrong size is told before anything that its pixels may mean."""
    try:
        with open_picture(path) as image:
            shape = image.size[::-1]
    except (OSError, ValueError, SyntaxError, struct.error):
        return read_label_image(path, reading)  # which says why
    _require_size(path, shape, video, size, reading.resize_mask)
    return read_label_image(path, reading)


def _fitted(one: GivenMask, video: Path, size: tuple[int, int], reading: MaskReading) -> GivenMask:
    """A mask of the video's size."""
    shape = one.image.labels.shape
    _require_size(one.path, shape, video, size, reading.resize_mask)
    if shape == size:
        return one
    if abs(shape[0] * size[1] - shape[1] * size[0]) > 2 * max(*shape, *size):
        log.warning("%s has other proportions than the video, and is stretched", one.path)
    return replace(one, image=replace(one.image, labels=_resized(one.image.labels, size)))


def _resized(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels (h, w) at another size (H, W), each pixel from the nearest one."""
    rows, columns = (
        (2 * np.arange(to) + 1) * side // (2 * to) for to, side in zip(size, labels.shape, strict=True)
    )
    resized: np.ndarray = labels[rows[:, None], columns]
    return resized


def _merged(given: Sequence[GivenMask]) -> tuple[dict[int, np.ndarray], dict[int, str]]:
    """The labels (H, W) of each frame, and what labels are called.

    Files of one frame add up. Where several show one object each, and call it the same, each is its own object.
    """
    labels: dict[int, np.ndarray] = {}
    called: dict[int, str] = {}
    seen: dict[int, set[int]] = defaultdict(set)
    for one in given:
        image, found = one.image.labels, one.image.objects()
        again = seen[one.index] & set(found)
        several = sum(other.index == one.index for other in given) > 1
        if again and len(found) == 1:
            label = _FILE + len(seen[one.index])
            image, found = np.where(image > 0, label, image), [label]
            called[label] = one.path.name
        elif again:
            raise MaskError(
                f"{one.path} shows object {color_name(min(again))}, which another mask of this frame shows too: "
                "give each object once"
            )
        else:
            called |= {found[0]: one.path.name} if several and len(found) == 1 else one.image.names
        for note in one.image.notes:
            log.warning("%s: %s", one.path, note)
        before = labels.get(one.index)
        if before is not None:
            both = int(((before > 0) & (image > 0)).sum())
            if both:
                log.warning("%s covers %d pixels of objects of masks before it: it has them", one.path, both)
            image = np.where(image > 0, image, np.where(before != 0, before, image))
        labels[one.index] = image
        seen[one.index] |= set(found)
    return labels, called


def _chosen(
    labels: Mapping[int, np.ndarray], called: Mapping[int, str], ids: Sequence[str]
) -> dict[int, np.ndarray]:
    """Labels with the objects that --ids names, by a number, a color or a name."""
    present = sorted({label for image in labels.values() for label in np.unique(image).tolist() if label > 0})
    wanted: list[int] = []
    if not "".join(ids).strip(" ,"):
        raise ConfigError("--ids names no object; leave it out to follow all, or give some, as --ids 3,7")
    for word in (word for words in ids for word in words.replace(",", " ").split()):
        found = [label for label in present if word.lower() in (color_name(label), called.get(label, "").lower())]
        if not found:
            there = ", ".join(called.get(label, color_name(label)) for label in present[:8])
            raise ConfigError(f"--ids {word}: no mask shows it; they show {there}{', ...' * (len(present) > 8)}")
        wanted += found
    kept = {i: np.where((image <= 0) | np.isin(image, wanted), image, 0) for i, image in labels.items()}
    return {i: image for i, image in kept.items() if (image > 0).any()}


def _numbers(labels: Sequence[int]) -> dict[int, int]:
    """An id of 1 to 254 for each label: its own number, the id of its color in a known palette, or a free one."""
    if len(labels) > MOST_OBJECTS:
        shown = ", ".join(color_name(label) for label in labels[:4])
        raise MaskError(
            f"the masks show {len(labels)} objects ({shown}, ...), and at most {MOST_OBJECTS} can be followed: "
            "--ids names those that you want, as --ids 3,7"
        )
    numbers = {label: label for label in labels if label <= MOST_OBJECTS}
    colors = [label for label in labels if COLOR <= label < _FILE]
    for palette in (davis_palette(), voc_palette()):
        known = {
            COLOR | int(r) << 16 | int(g) << 8 | int(b): i for i, (r, g, b) in enumerate(palette[:DAVIS_COLORS])
        }
        own = {color: known[color] for color in colors if color in known}
        if len(own) == len(colors) and not numbers.keys() & set(own.values()):
            numbers |= own
            break
    free = (i for i in range(1, MOST_OBJECTS + 1) if i not in set(numbers.values()))
    return numbers | {label: next(free) for label in labels if label not in numbers}


def _as_ids(labels: np.ndarray, numbers: Mapping[int, int]) -> Ids:
    mask = np.where(labels == UNKNOWN, IGNORE, 0).astype(np.uint8)
    for label in np.unique(labels[labels > 0]).tolist():
        mask[labels == label] = numbers[label]
    return mask


def _line(
    names: Sequence[str], index: int, mask: Ids, given: Sequence[GivenMask], origins: Mapping[int, str]
) -> str:
    """What was understood of a frame's masks, in one line."""
    found, counts = np.unique(mask, return_counts=True)
    pixels = {i: n for i, n in zip(found.tolist(), counts.tolist(), strict=True) if 0 < i < IGNORE}
    parts = [f"object {i}{f' ({origins[i]})' if i in origins else ''} {n} pixels" for i, n in pixels.items()]
    if len(parts) > 12:
        parts = [*parts[:12], f"{len(parts) - 12} objects more"]
    unknown = int((mask == IGNORE).sum())
    files = ", ".join(dict.fromkeys(one.path.name for one in given if one.index == index))
    return (
        f"{files}: frame {names[index]} (index {index}): {', '.join(parts)}; "
        f"unknown: {f'{unknown} pixels' if unknown else 'none'}"
    )
