"""Polygons, boxes and run lengths of labelling tools (LabelMe and COCO JSON) as masks."""

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vos_umec.errors import MaskError
from vos_umec.io.label_pixels import Labels, Where
from vos_umec.io.labels import LabelImage
from vos_umec.io.picture import open_picture
from vos_umec.io.rle import decode_rle
from vos_umec.io.text import read_text

_MOST_PIXELS = 2**26
_FARTHEST = 1e6  # pixels from the corner of the picture; beyond it Pillow's integers run over


@dataclass
class _Canvas:
    """Draws the shapes of one picture; later objects lie over earlier ones."""

    labels: Labels
    names: dict[int, str]
    boxes: int = 0
    crossed: int = 0

    @classmethod
    def of_size(cls, height: Any, width: Any) -> "_Canvas":
        height, width = int(height), int(width)
        if not 0 < height * width <= _MOST_PIXELS or height < 0:
            raise ValueError(f"a picture of {height} x {width} pixels")
        return cls(np.zeros((height, width), np.int64), {})

    def polygon(self, points: Sequence[Sequence[float]]) -> Where:
        """The inside of a polygon and its outline, as LabelMe fills it."""
        corners = [(_finite(x), _finite(y)) for x, y in points]
        return self._drawn(lambda draw: draw.polygon(corners, fill=1, outline=1))

    def box(self, left: float, top: float, right: float, bottom: float) -> Where:
        """The pixels of a box; `right` and `bottom` are where it ends."""
        self.boxes += 1
        where = np.zeros(self.labels.shape, np.bool_)
        rows, columns = (
            slice(max(0, round(_finite(low))), max(0, round(_finite(high))))
            for low, high in ((top, bottom), (left, right))
        )
        where[rows, columns] = True
        return where

    def circle(self, center: Sequence[float], edge: Sequence[float]) -> Where:
        (x, y), (u, v) = center, edge
        radius = _finite(np.hypot(u - x, v - y))
        corners = (x - radius, y - radius, x + radius, y + radius)
        return self._drawn(lambda draw: draw.ellipse(corners, fill=1, outline=1))

    def put(self, label: int, name: str, where: Where) -> None:
        """Give pixels to an object."""
        if where.shape != self.labels.shape:
            raise ValueError(f"a mask of {where.shape} pixels in a picture of {self.labels.shape}")
        if not where.any():
            raise ValueError(f"{name} has no pixel in the picture")
        self.crossed += int((where & (self.labels > 0) & (self.labels != label)).sum())
        self.labels[where] = label
        self.names[label] = name

    def image(self, frame: str | None) -> LabelImage:
        """What was drawn."""
        notes = []
        if self.boxes:
            notes.append(
                f"{self.boxes} of the shapes are boxes: what their corners hold of the background counts too"
            )
        if self.crossed:
            notes.append(f"objects overlap in {self.crossed} pixels, which the later one has")
        return LabelImage(self.labels, self.names, frame, tuple(notes))

    def _drawn(self, paint: Any) -> Where:
        picture = Image.new("L", self.labels.shape[::-1])
        paint(ImageDraw.Draw(picture))
        return np.asarray(picture) > 0


def read_shapes(path: Path) -> list[LabelImage]:
    """Read the masks of a JSON file, one for each picture that has objects in it.

    LabelMe: each shape is an object, and shapes of one label and one `group_id` are one. COCO: each annotation is
    an object, and annotations of one `track_id` (its own key, or among `attributes`) are one in all pictures.

    Raises:
        MaskError: It is neither, or shows no object.
    """
    try:
        content = json.loads(read_text(path))
        if "shapes" in content:
            images = [_of_labelme(content)]
        elif "annotations" in content:
            images = list(_of_coco(content))
        else:
            raise MaskError(
                f"{path} is JSON of an unknown kind: expected LabelMe (with `shapes`) or COCO (with `annotations`)"
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise MaskError(
            f"the shapes of {path} cannot be read ({reason}); expected LabelMe or COCO JSON with polygons, boxes "
            "or run lengths"
        ) from error
    if not any(image.objects() for image in images):
        raise MaskError(f"{path} shows no object; draw a polygon or a box around each")
    return images


def _of_labelme(content: dict[str, Any]) -> LabelImage:
    canvas = _Canvas.of_size(content["imageHeight"], content["imageWidth"])
    groups: dict[Any, int] = {}
    for place, shape in enumerate(content["shapes"]):
        group = (shape["label"], shape.get("group_id"))
        key: Any = group if group[1] is not None else place
        label = groups.setdefault(key, len(groups) + 1)
        kind, points = shape.get("shape_type") or "polygon", shape["points"]
        if kind == "polygon":
            where = canvas.polygon(points)
        elif kind == "rectangle":
            (x, y), (u, v) = points
            where = canvas.box(min(x, u), min(y, v), max(x, u), max(y, v))
        elif kind == "circle":
            where = canvas.circle(*points)
        elif kind == "mask":
            where = _pasted(canvas, points, shape["mask"])
        else:
            raise ValueError(f"a shape of type {kind}; polygon, rectangle, circle and mask have an inside")
        canvas.put(label, str(shape["label"]), where)
    return canvas.image(_stem(content.get("imagePath")))


def _pasted(canvas: _Canvas, points: Sequence[Sequence[float]], text: str) -> Where:
    """LabelMe's type "mask": a picture in base64, whose first corner is the first point."""
    try:
        with open_picture(BytesIO(base64.b64decode(text))) as picture:
            mask = np.asarray(picture.convert("L")) > 0
    except (binascii.Error, OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"a mask that is no picture: {error}") from error
    where = np.zeros(canvas.labels.shape, np.bool_)
    left, top = (round(value) for value in points[0])
    where[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return where


def _of_coco(content: dict[str, Any]) -> Iterable[LabelImage]:
    names = {category["id"]: str(category["name"]) for category in content.get("categories", [])}
    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    shown = [image for image in content["images"] if of_image[image["id"]]]
    if of_image and not shown:
        raise ValueError(f"no picture has the image_id {next(iter(of_image))} of its annotations")
    tracks: dict[Any, int] = {}
    if len(shown) > 1 and any(_track(annotation) is None for annotation in content["annotations"]):
        raise MaskError(
            f"{len(shown)} pictures have objects, and no `track_id` says which are the same: leave one picture in, "
            "or add a `track_id` to each annotation"
        )
    for image in shown:
        canvas = _Canvas.of_size(image["height"], image["width"])
        for place, annotation in enumerate(of_image[image["id"]]):
            track = _track(annotation)
            label = tracks.setdefault(place if track is None else ("track", track), len(tracks) + 1)
            name = names.get(annotation.get("category_id"), "object")
            canvas.put(label, name, _of_annotation(canvas, annotation))
        yield canvas.image(_stem(image.get("file_name")))


def _track(annotation: dict[str, Any]) -> Any:
    for holder in (annotation, annotation.get("attributes") or {}):
        for key in ("track_id", "instance_id"):
            if holder.get(key) is not None:
                return holder[key]
    return None


def _of_annotation(canvas: _Canvas, annotation: dict[str, Any]) -> Where:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        try:
            return decode_rle(segmentation)
        except MaskError as error:
            raise ValueError(str(error)) from error
    if segmentation:
        where = np.zeros(canvas.labels.shape, np.bool_)
        for numbers in segmentation:
            if len(numbers) % 2:
                raise ValueError(f"a polygon of {len(numbers)} numbers, and a corner has two")
            where |= canvas.polygon(list(pairwise(numbers))[::2])
        return where
    left, top, width, height = annotation["bbox"]
    return canvas.box(left, top, left + width, top + height)


def _finite(value: Any) -> float:
    number = float(value)
    if not abs(number) <= _FARTHEST:
        raise ValueError(f"a corner at {number}, which is no place in a picture")
    return number


def _stem(name: str | None) -> str | None:
    """The name of a frame from a picture's path, which may be one of Windows."""
    return PurePosixPath(name.replace("\\", "/")).stem if name else None
