"""Masks as people and labelling tools draw them: read where the meaning is certain or said, else asked about.

`read_mask` reads the files of data sets, whose values are ids. Here a file may have any hard-edged values: label
colors, greys, ids of 16 bits, cut-outs with an alpha channel.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from vos_umec.errors import ConfigError, MaskError
from vos_umec.io.label_file import COLOR, MaskReading, color_name, file_labels
from vos_umec.io.label_pixels import (
    Labels,
    Where,
    border_label,
    borders_objects,
    edge_labels,
    harden,
    speckle,
)
from vos_umec.io.labelmap import read_labelmap

UNKNOWN = -1
MOST_OBJECTS = 254

_BLACK, _WHITE = COLOR, COLOR | 0xFFFFFF
_SAME_EVERYWHERE = 0.95  # of the picture's four sides: most likely the background
_FEW = 3  # labels without an interior; a hard-edged mask may have one or two that are tiny
_DITHERED = 0.15
_NEARLY = 40


@dataclass(frozen=True)
class LabelImage:
    """The objects of one mask file, by labels that files of one video share.

    Attributes:
        labels: (H, W) int64: 0 for the background, -1 for unknown, else the label of an object: a number of the
            file, or COLOR and a color.
        names: What to call a label that is no plain number.
        frame: The frame that the file itself names, such as the picture of a LabelMe file.
        notes: What the user should know of how the file was understood.
    """

    labels: Labels
    names: Mapping[int, str] = field(default_factory=dict)
    frame: str | None = None
    notes: tuple[str, ...] = ()

    def objects(self) -> list[int]:
        """The labels of the objects, in ascending order."""
        return [label for label in np.unique(self.labels).tolist() if label > 0]


def read_label_image(path: Path, reading: MaskReading | None = None) -> LabelImage:
    """Read the mask of a person or a labelling tool.

    Args:
        path: A picture.
        reading: What the file leaves open.

    Raises:
        MaskError: It is no picture, or it may mean more than one thing; the message names the option that decides.
    """
    reading = reading or MaskReading()
    labels, opaque, colors = file_labels(path, reading)
    names: dict[int, str] = {}
    if opaque is not None and len(np.unique(labels[opaque])) > MOST_OBJECTS:  # a photo with its ground cut away
        return LabelImage(opaque.astype(np.int64), {1: "what is opaque"})
    if opaque is not None:  # whatever color the transparent pixels have
        labels = np.where(opaque, labels, _BLACK if labels.max() >= COLOR else 0)
    if reading.edges == "ask" and reading.labelmap is None:
        _require_hard_edges(path, labels, colors)
    elif reading.edges == "harden":
        labels = _hardened(labels)
    labels, nothing = _with_background(path, labels, opaque, reading, colors)
    labels = np.where(nothing, 0, _with_unknown(path, labels, nothing, reading))
    if reading.labelmap is not None:
        labels, names = _mapped(path, labels, reading.labelmap, reading.edges)
    objects = np.unique(labels[labels > 0]).tolist()
    if not objects:
        raise MaskError(f"{path} shows no object; mark each object with an id of 1 to 254")
    if len(objects) == 1 and objects[0] in (255, 65535, _WHITE):
        labels, objects, names = np.where(labels > 0, 1, labels), [1], {}
    names |= {label: color_name(label) for label in objects if label >= COLOR}
    return LabelImage(labels, names)


def _require_hard_edges(path: Path, labels: Labels, palette: list[int]) -> None:
    """Raise a MaskError if labels have soft edges or are dithered."""
    edge, inside = edge_labels(labels)
    edge = edge[~np.isin(edge, (0, _BLACK))]
    if len(edge) < _FEW and not any(_is_blend(label, inside) for label in edge.tolist()):
        return
    number = len(np.unique(labels))
    shown = ", ".join(color_name(label) for label in edge[:4].tolist()) + (", ..." if len(edge) > 4 else "")
    found = f"the mask {path} has {number} {'colors' if labels.max() >= COLOR else 'values'}, of which {len(edge)}"
    lossy = path.suffix.lower() in {".jpg", ".jpeg", ".webp"} or number > 256
    if not lossy and speckle(labels) > _DITHERED and (labels > 0).sum() > 100:
        raise MaskError(
            f"{found} are scattered pixels ({shown}): it is dithered, as by Pillow's convert('P'). Give the "
            'picture as it was, or convert it without dithering; "--edges keep" takes every value for an object'
        )
    cause = "JPEG or smooth resizing" if lossy else "antialiased drawing or smooth resizing"
    raise MaskError(
        f"{found} fill no area ({shown}): soft edges, as {cause} leaves them"
        f'{", saved with a palette" if palette else ""}. "--edges harden" gives these pixels the nearest plain '
        'value (or draw hard edges); "--edges keep" takes every value for an object'
    )


def _is_blend(label: int, inside: Labels) -> bool:
    """Whether a label may be a mixture of two others: a grey above 10 between them, or a color on their line."""
    if label < COLOR:
        return bool(label > 10 and (inside < label).any() and ((inside > label) & (inside < COLOR)).any())
    plain = [np.array(_rgb(other), np.float64) for other in inside.tolist() if other >= COLOR]
    color = np.array(_rgb(label), np.float64)
    for i, first in enumerate(plain):
        for second in plain[:i]:
            line = second - first
            part = float((color - first) @ line / max(1.0, float(line @ line)))
            if 0.02 < part < 0.98 and np.abs(first + part * line - color).max() < 4:
                return True
    return False


def _hardened(labels: Labels) -> Labels:
    """Labels without soft edges."""
    if labels.max() <= _NEARLY:  # small ids, between which there is no room for edges
        return labels
    if labels.max() < COLOR:
        values = labels if labels.max() < 256 else labels * 255 // labels.max()
        hard = harden(values[..., None].astype(np.uint8))[..., 0].astype(np.int64)
    else:
        wide = harden(np.stack(_rgb_planes(labels), axis=2)).astype(np.int64)
        hard = COLOR | wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        if (wide == wide[..., :1]).all():
            hard = wide[..., 0]
    if hard.max() >= COLOR:  # black and white of a JPEG may be 1 and 254
        hard = np.where(np.max(_rgb_planes(hard), axis=0) <= _NEARLY, _BLACK, hard)
    else:
        hard = np.where(hard <= _NEARLY, 0, np.where(hard >= 255 - _NEARLY, 255, hard))
    return hard


def _with_background(
    path: Path, labels: Labels, opaque: Where | None, reading: MaskReading, palette: list[int]
) -> tuple[Labels, Where]:
    """Labels whose background is certain, and where (H, W) it is."""
    usual = _BLACK if labels.max() >= COLOR else 0
    nothing = np.zeros(labels.shape, np.bool_) if opaque is None else ~opaque
    if reading.background == "none":
        if (labels == 0).any():
            raise ConfigError(f"--background none leaves 0 of {path} an object, and 0 is no id; give the value")
        return labels, nothing
    if reading.background is not None:
        chosen = _parsed(reading.background, "background", labels)
        if not (labels == chosen).any():
            raise ConfigError(f"--background {reading.background} is nowhere in {path}")
        nothing |= labels == chosen
        if chosen == 0 or usual == _BLACK:
            return labels, nothing
        taken = set(np.unique(labels[~nothing]).tolist())  # what was 0 is an object now, and needs another number
        free = next(number for number in range(1, len(taken) + 2) if number not in taken)
        return np.where((labels == 0) & ~nothing, free, labels), nothing
    if opaque is not None or reading.labelmap is not None:
        return labels, nothing
    main, proportion = border_label(labels)
    if palette and any(palette[:3]):
        dark = [i for i in np.unique(labels).tolist() if palette[3 * i : 3 * i + 3] == [0, 0, 0]]
        if dark:
            raise MaskError(
                f"{path} shows id {dark[0]} in black and id 0, the background, in a color, so 0 is most likely an "
                f"object: --background {dark[0]} or --background 0 says which"
            )
    present = np.unique(labels).tolist()
    if usual in present and (main == usual or proportion < _SAME_EVERYWHERE):
        return labels, labels == usual
    name = color_name(main)
    if usual in present:
        raise MaskError(
            f"the sides of {path} are {name} almost everywhere, and inside is {color_name(usual)}: it may be "
            f"inverted. --background {_quoted(name)} or --background {_quoted(color_name(usual))} says which is "
            "the background"
        )
    raise MaskError(
        f"no pixel of {path} is {color_name(usual)}, so its background is not certain: --background "
        f"{_quoted(name)} (most of its sides), or --background none if every value is an object"
    )


def _with_unknown(path: Path, labels: Labels, nothing: Where, reading: MaskReading) -> Labels:
    """Labels in which what is unknown is -1."""
    if reading.unknown is not None:
        if reading.unknown == "none":
            return labels
        chosen = _parsed(reading.unknown, "unknown", labels)
        if not (labels == chosen).any():
            raise ConfigError(f"--unknown {reading.unknown} is nowhere in {path}")
        return np.where(labels == chosen, UNKNOWN, labels)
    if reading.labelmap is not None:
        return labels
    objects = set(np.unique(labels[~nothing]).tolist())
    white = next((label for label in (_WHITE, 65535, 255) if label in objects), None)
    if white is None or len(objects) == 1:
        return labels
    if white == 255 and max(objects) > 255:
        return labels  # one of many ids of 16 bits
    band = labels == white
    if borders_objects(band, ~band & ~nothing):
        return np.where(band, UNKNOWN, labels)
    others = ", ".join(color_name(label) for label in sorted(objects - {white})[:4])
    name = color_name(white)
    more = ""
    if len(objects) == 2 and (other := next(iter(objects - {white}))) < COLOR and other > 10:
        more = f"; --unknown {other} if {name} alone is the object"
    raise MaskError(
        f"{path} has {name} beside {others}, which may be unknown or an object: --unknown {_quoted(name)} if it is "
        f"unknown, --unknown none if each value is an object{more}"
    )


def _mapped(path: Path, labels: Labels, labelmap: Path, edges: str) -> tuple[Labels, dict[int, str]]:
    """Labels by the order of a label map, and their names."""
    entries = read_labelmap(labelmap)
    colors = np.array([entry.color for entry in entries], np.int64)  # (L, 3)
    keys = COLOR | colors[:, 0] << 16 | colors[:, 1] << 8 | colors[:, 2]
    ids = np.array([entry.id for entry in entries])
    present = np.unique(labels)
    strange = np.setdiff1d(present[present > 0], [*keys.tolist(), _BLACK])
    if strange.size and edges == "harden":
        planes = np.stack(_rgb_planes(labels), axis=2).astype(np.float32)  # (H, W, 3)
        with_black = np.vstack([colors, [[0, 0, 0]]])
        nearest = np.stack([np.linalg.norm(planes - color, axis=2) for color in with_black]).argmin(axis=0)
        return np.where(labels > 0, np.append(ids, 0)[nearest], labels), {e.id: e.name for e in entries if e.id}
    if strange.size:
        shown = ", ".join(color_name(label) for label in strange[:4].tolist())
        raise MaskError(
            f"{path} has {len(strange)} colors that are not in {labelmap} ({shown}{', ...' * (len(strange) > 4)}): "
            'add them there, or give "--edges harden" if they are soft edges'
        )
    mapped = np.where(labels == UNKNOWN, UNKNOWN, 0)
    for key, number in zip(keys.tolist(), ids.tolist(), strict=True):
        mapped[labels == key] = number
    return mapped, {entry.id: entry.name for entry in entries if entry.id}


def _parsed(value: str, option: str, labels: Labels) -> int:
    """The label that an option names: a number, a color as #rrggbb, or a color's name."""
    in_color = labels.max() >= COLOR
    if re.fullmatch(r"\d+", value):
        number = int(value)
        return COLOR | number << 16 | number << 8 | number if in_color and number < 256 else number
    try:
        red, green, blue = ImageColor.getrgb(value)[:3]
    except ValueError as error:
        raise ConfigError(f"--{option} is {value}: expected a value, a color such as #ff8000, or none") from error
    if not in_color and red == green == blue:
        return red
    return COLOR | red << 16 | green << 8 | blue


def _quoted(name: str) -> str:
    """A word as a shell needs it: # begins a comment."""
    return f"'{name}'" if name.startswith("#") else name


def _rgb(label: int) -> tuple[int, int, int]:
    return label >> 16 & 255, label >> 8 & 255, label & 255


def _rgb_planes(labels: Labels) -> list[npt.NDArray[np.uint8]]:
    return [(labels >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)]
