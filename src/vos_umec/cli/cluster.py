"""Write the pseudo masks that a model gives a video or a folder of videos, and a picture of them.

Example:
    vos-umec cluster my_videos --checkpoint last.ckpt --out segments --clusters 5

With --annotations it prints how well unions of segments cover the annotated objects.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vos_umec.clustering.segments import SpaceTimeClusterer
from vos_umec.clustering.video import cluster_video, frame_window, video_seed
from vos_umec.constants import IGNORE
from vos_umec.data.index import scan
from vos_umec.data.probe import open_probed
from vos_umec.device import pick_device
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.frames import Frame
from vos_umec.io.masks import read_mask
from vos_umec.io.png import indexed_png
from vos_umec.io.written import WrittenFiles
from vos_umec.models.model_file import load
from vos_umec.progress import progress
from vos_umec.shipped import SHIPPED
from vos_umec.viz.by_product import ByProduct
from vos_umec.viz.segments import segment_sheet
from vos_umec.viz.sheets import contact_sheet, save_picture

log = logging.getLogger(__name__)
SETTINGS = {"how to cluster": (SpaceTimeClusterer,)}
_PICTURED = 12  # videos in the picture


def run(
    videos: Path,
    *,
    out: Path,
    checkpoint: Path | None = None,
    frames: int = 24,
    gap: int = 2,
    short_side: int = 256,
    annotations: Path | None = None,
    draw: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    **settings: Any,
) -> None:
    """Cluster each video; write its segments as indexed PNGs, and a picture of the first videos.

    Args:
        videos: A folder of videos or frame folders, or one video.
        out: Folder for VIDEO/FRAME.png and contact_sheet.png.
        checkpoint: A .ckpt or .safetensors file, a folder or a name on the Hub; without it, vos_umec's own.
        frames: Frames of each video, a window at a random place.
        gap: Steps from one of these frames to the next.
        short_side: Short side of the segments in pixels.
        annotations: Folder of true masks, VIDEO/FRAME.png: print how well unions of segments cover the objects.
        draw: Seed of the windows and of the clustering.
        overwrite: Replace files in OUT that vos-umec did not write.
        device: auto, cpu, cuda, cuda:1 or mps.
        **settings: Arguments of `SpaceTimeClusterer`.
    """
    clusterer = SpaceTimeClusterer(**settings)
    written = WrittenFiles(out)
    place = pick_device(device)
    encoder = load(checkpoint or SHIPPED).encoder.to(place)
    if videos.is_dir():
        index = scan(videos)
        openers, paths = {entry.id: entry.source for entry in index}, {entry.id: entry.path for entry in index}
    else:
        video = open_probed(videos)
        openers, paths = {videos.name: lambda: video}, {videos.name: videos}
    for name, path in paths.items():
        if (out / name).resolve() == path.resolve():
            raise ConfigError(f"the segments of {path} would be written into it; choose an --out beside {videos}")
    sheets: dict[str, Frame] = {}
    covered: dict[str, float] = {}
    done = 0
    for name, opener in progress(openers.items(), "clustering", len(openers)):
        seed = video_seed(name, refresh=draw)
        try:
            source = opener()
            indices = frame_window(len(source), frames, gap, seed).tolist()
            files = [f"{source.names[index]}.png" for index in indices]
            if not overwrite:
                written.require_own(out / name / file for file in files)
            result, pixels = cluster_video(source, encoder, clusterer, indices, short_side, seed, place)
        except DataError as error:
            log.warning("%s gets no masks: %s", name, error)
            continue
        for file, segments in zip(files, result.segments, strict=True):
            written.write(out / name / file, indexed_png(segments))
        if annotations is not None:
            found = covered_objects(result.segments, [annotations / name / file for file in files])
            covered |= {f"{name}, object {i}": iou for i, iou in found.items()}
        if len(sheets) < _PICTURED:
            sheets[name] = segment_sheet(pixels, result.segments)
        done += 1
    if not done:
        raise DataError(f"none of the {len(openers)} videos in {videos} could be clustered; see the warnings")
    picture, shown = out / "contact_sheet.png", ""
    with ByProduct(picture):
        sheet = contact_sheet([[sheet] for sheet in sheets.values()], labels=[[name] for name in sheets])
        if not overwrite:
            written.require_own([picture])
        temporary = out / ".contact_sheet.partial.png"
        save_picture(temporary, sheet)
        written.adopt(temporary, picture)
        shown = f", a picture of them in {picture}"
    for name, iou in covered.items():
        print(f"{name}: {100 * iou:.1f} % IoU of its best union of segments")
    if covered:
        print(f"mean over {len(covered)} objects: {100 * sum(covered.values()) / len(covered):.1f} %")
    print(f"segments of {done} videos in {out}{shown}")


def covered_objects(segments: NDArray[np.integer], annotations: Sequence[Path]) -> dict[int, float]:
    """How well segments (T, H, W) could cover each annotated object of a video: `best_union` by object.

    `annotations` are T indexed PNGs of the same frames, of any size; 0 and 255 are no objects.
    """
    _, H, W = segments.shape
    masks = [Image.fromarray(read_mask(path)).resize((W, H), Image.Resampling.NEAREST) for path in annotations]
    ids = np.stack([np.asarray(mask) for mask in masks])  # (T, H, W)
    objects = sorted(set(np.unique(ids).tolist()) - {0, IGNORE})
    return {i: best_union(segments, ids == i) for i in objects}


def best_union(segments: NDArray[np.integer], mask: NDArray[np.bool_]) -> float:
    """The highest IoU that a union of segments has with an object.

    A segment belongs to the best union if its pixels inside, per pixel outside, exceed the IoU of that union. So
    the best union is a prefix of the segments sorted by this ratio, and all prefixes are tried.

    Args:
        segments: (T, H, W) segment numbers, 0 to 254.
        mask: (T, H, W) where the object is, at least one pixel.

    Example:
        >>> best_union(np.array([[[0, 0, 1, 1, 2, 2]]]), np.array([[[True, True, True, False, False, False]]]))
        0.75
    """
    inside = np.bincount(segments[mask], minlength=IGNORE).astype(float)
    outside = np.bincount(segments[~mask], minlength=IGNORE).astype(float)
    order = np.argsort(outside / np.maximum(inside, 1e-9))  # most pixels inside per pixel outside first
    union = mask.sum() + np.cumsum(outside[order])
    return float((np.cumsum(inside[order]) / union).max())
