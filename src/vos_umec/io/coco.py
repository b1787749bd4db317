"""Masks of a video as COCO writes them (Lin et al., 2014), with compressed run lengths."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vos_umec.io.masks import Ids
from vos_umec.io.rle import encode_rle


def coco_video(masks: Iterable[tuple[int, str, Ids]], names: Mapping[int, str]) -> dict[str, Any]:
    """COCO's content for the masks of one video; the category and the track of an object are its id.

    Args:
        masks: (frame index, name of the picture, mask (H, W) of ids; 0 and 255 are no objects).
        names: What objects are called, by id; an object that has no name is called by its id.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, name, mask in masks:
        height, width = mask.shape
        images.append({"id": index, "file_name": name, "height": height, "width": width})
        for number in np.unique(mask[(mask > 0) & (mask < 255)]).tolist():
            where = mask == number
            rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": number,
                    "track_id": number,
                    "segmentation": encode_rle(where),
                    "area": int(where.sum()),
                    "bbox": [int(side) for side in box],
                    "iscrowd": 0,
                }
            )
    seen = sorted({annotation["category_id"] for annotation in annotations})
    categories = [{"id": i, "name": names.get(i, f"object {i}")} for i in seen]
    return {"images": images, "annotations": annotations, "categories": categories}
