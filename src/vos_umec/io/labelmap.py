"""Label maps: the file in which a labelling tool says which color means what."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ImageColor

from vos_umec.errors import MaskError
from vos_umec.io.text import read_text

_BACKGROUND = {"background", "bg", "unlabeled", "unlabelled", "_background_"}


@dataclass(frozen=True)
class LabelColor:
    """A label of a label map.

    Attributes:
        id: 1, 2, ... in the file's order; 0 for the background.
        name: Its name, or its color where it has none.
        color: RGB, each 0 to 255.
    """

    id: int
    name: str
    color: tuple[int, int, int]


def read_labelmap(path: Path) -> list[LabelColor]:
    """Read label colors, in their order.

    Args:
        path: `labelmap.txt` of CVAT (a line `name:red,green,blue::`); lines of `name #rrggbb` or of colors; or
            JSON: {name: color} or a list of {"name": ..., "color": ...}, with colors as "#rrggbb" or [r, g, b].

    Raises:
        MaskError: It is no such file, or names a color twice.
    """
    try:
        text = read_text(path)
        pairs = _of_json(json.loads(text)) if path.suffix.lower() == ".json" else _of_lines(text)
        colors = [(name, _color(color)) for name, color in pairs]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MaskError(
            f"the label map {path} cannot be read ({error}): expected labelmap.txt of CVAT, a line of `name "
            "#rrggbb` for each label, or JSON of names and colors"
        ) from error
    if not colors:
        raise MaskError(f"the label map {path} names no color")
    twice = {color for _, color in colors if sum(other == color for _, other in colors) > 1}
    if twice:
        raise MaskError(f"the label map {path} has the color {min(twice)} twice")
    labels: list[LabelColor] = []
    for name, color in colors:
        nothing = name.lower() in _BACKGROUND or (not name and color == (0, 0, 0))
        number = 0 if nothing else 1 + sum(label.id > 0 for label in labels)
        labels.append(LabelColor(number, name or "#{:02x}{:02x}{:02x}".format(*color), color))
    return labels


def _of_lines(text: str) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith(("# ", "#label")) or line == "#":
            continue
        name, colon, rest = line.partition(":")
        if colon:  # CVAT: name:r,g,b:parts:actions
            pairs.append((name, rest.split(":")[0]))
        else:
            words = line.replace(",", " ").split()
            numbers = [word for word in words if word.isdigit()]
            is_hex = words[-1].startswith("#")
            color = words[-1] if is_hex else ",".join(numbers[-3:])
            pairs.append((" ".join(words[: -1 if is_hex else -3]), color))
    return pairs


def _of_json(content: Any) -> list[tuple[str, Any]]:
    if isinstance(content, dict):
        return [(str(name), color) for name, color in content.items()]
    return [(str(entry.get("name", "")), entry["color"]) for entry in content]


def _color(color: Any) -> tuple[int, int, int]:
    """RGB of "#rrggbb", a color's name, "r,g,b" or [r, g, b]."""
    if isinstance(color, str) and not color[:1].isdigit():
        red, green, blue = ImageColor.getrgb(color)[:3]
    else:
        red, green, blue = (int(part) for part in (color.split(",") if isinstance(color, str) else color))
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ValueError(f"no color: {color}")
    return red, green, blue
