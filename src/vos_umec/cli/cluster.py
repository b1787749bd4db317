"""How well pseudo segments could cover an object: the best union of them, for looking at a clustering."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vos_umec.constants import IGNORE
from vos_umec.errors import DataError
from vos_umec.io.masks import read_mask
from vos_umec.shipped import SHIPPED


def best_union(segments: NDArray[np.integer], mask: NDArray[np.bool_]) -> float:
    """The IoU of an object with that union of segments which covers it best.

    A segment belongs into the best union if more of it lies inside per pixel outside than the union's own ratio
    asks; so the best union is a prefix of the segments sorted by that ratio, and all prefixes are tried.

    Args:
        segments: (T, H, W) segment numbers, 0 to 254.
        mask: (T, H, W) where the object is, at least one pixel.

    Returns:
        Intersection over union in space and time, 0 to 1.

    Example:
        >>> segments = np.array([[[0, 0, 1, 1, 2, 2]]])
        >>> best_union(segments, np.array([[[True, True, True, False, False, False]]]))
        0.75
    """
    inside = np.bincount(segments[mask], minlength=IGNORE).astype(float)
    outside = np.bincount(segments[~mask], minlength=IGNORE).astype(float)
    order = np.argsort(outside / np.maximum(inside, 1e-9))  # most inside a pixel outside first
    union = mask.sum() + np.cumsum(outside[order])
    return float((np.cumsum(inside[order]) / union).max())


def covered_objects(segments: NDArray[np.integer], annotations: Sequence[Path]) -> dict[int, float]:
    """`best_union` of every object of a video's annotated frames.

    Args:
        segments: (T, H, W) segment numbers.
        annotations: T indexed PNGs of the same frames, of any size; 0 and 255 are no objects.

    Returns:
        By object, in order.

    Raises:
        MaskError: If a mask cannot be read.
    """
    size = segments.shape[1:]
    ids = np.stack([_resized(read_mask(path), size) for path in annotations])  # (T, H, W)
    found = {}
    for i in sorted(set(np.unique(ids).tolist()) - {0, IGNORE}):
        found[int(i)] = best_union(segments, ids == i)
    return found


def _resized(ids: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """The nearest pixel of each pixel of another size."""
    rows, columns = (
        ((np.arange(n) + 0.5) * old / n).astype(np.int64) for n, old in zip(size, ids.shape, strict=True)
    )
    nearest: NDArray[np.uint8] = ids[rows[:, None], columns]
    return nearest


log = logging.getLogger(__name__)

SHEET_VIDEOS = 12
"""Videos on the contact sheet: the first that go well."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of `vos-umec cluster`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["videos", "--checkpoint", "c.ckpt", "--out", "out"]).clusters
        5
    """
    parser.add_argument("videos", type=Path, help="a folder of videos or frame folders, or one video")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=SHIPPED,
        help="a .ckpt or .safetensors file (default: the model that comes with vos_umec)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for <video>/<frame>.png and contact_sheet.png"
    )
    parser.add_argument("--clusters", type=int, default=5, help="segments of a video (default: 5)")
    parser.add_argument(
        "--position-weight", type=float, default=0.5, help="weight of the position code (default: 0.5)"
    )
    parser.add_argument(
        "--frames", type=int, default=24, help="frames of each video, a random window (default: 24)"
    )
    parser.add_argument("--gap", type=int, default=2, help="steps from one of them to the next (default: 2)")
    parser.add_argument("--short-side", type=int, default=256, help="short side of the masks (default: 256)")
    parser.add_argument(
        "--annotations",
        type=Path,
        help="folder of <video>/<frame>.png, true masks: also say how well unions of segments cover the objects",
    )
    parser.add_argument(
        "--draw", type=int, default=0, help="number of the draw; another one takes other frames (default: 0)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")


def run(args: argparse.Namespace) -> int:
    """Cluster each video; write its segments as indexed PNGs, and a picture of some of them.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        0, the exit status.

    Raises:
        VosUmecError: If no video can be used, the checkpoint cannot, or faiss is missing.
    """
    from rich.progress import track

    from vos_umec.cli.cluster import covered_objects
    from vos_umec.clustering.segments import SpaceTimeClusterer
    from vos_umec.clustering.video import cluster_video, frame_window, video_seed
    from vos_umec.data.index import scan
    from vos_umec.device import pick_device
    from vos_umec.inference.load import load_network
    from vos_umec.io.frames import Frame
    from vos_umec.io.masks import write_mask
    from vos_umec.io.source import open_source
    from vos_umec.viz.segments import segment_sheet
    from vos_umec.viz.sheets import contact_sheet, save_picture

    clusterer = SpaceTimeClusterer(args.clusters, args.position_weight)
    if args.videos.is_dir():
        openers = {entry.id: entry.source for entry in scan(args.videos)}
    else:
        video = open_source(args.videos)
        openers = {args.videos.name: lambda: video}
    device = pick_device(args.device)
    encoder = load_network(args.checkpoint).encoder.to(device)
    sheets: dict[str, Frame] = {}
    covered: dict[str, float] = {}
    done = 0
    for name in track(list(openers), description="clustering", transient=True):
        seed = video_seed(name, refresh=args.draw)
        try:
            source = openers[name]()
            indices = frame_window(len(source), args.frames, args.gap, seed).tolist()
            result, frames = cluster_video(source, encoder, clusterer, indices, args.short_side, seed, device)
        except DataError as error:
            log.warning("%s gets no masks: %s", name, error)
            continue
        for index, segments in zip(indices, result.segments, strict=True):
            write_mask(args.out / name / f"{source.names[index]}.png", segments)
        if args.annotations is not None:
            truth = [args.annotations / name / f"{source.names[index]}.png" for index in indices]
            found = covered_objects(result.segments, truth)
            covered |= {f"{name}, object {i}": value for i, value in found.items()}
        if len(sheets) < SHEET_VIDEOS:
            sheets[name] = segment_sheet(frames, result.segments)
        done += 1
    if not done:
        raise DataError(f"none of the {len(openers)} videos in {args.videos} could be clustered; see the warnings")
    picture = contact_sheet([[sheet] for sheet in sheets.values()], labels=[[name] for name in sheets])
    save_picture(args.out / "contact_sheet.png", picture)
    for name, value in covered.items():
        print(f"{name}: {100 * value:.1f} % IoU of its best union of segments")
    if covered:
        print(f"mean over {len(covered)} objects: {100 * sum(covered.values()) / len(covered):.1f} %")
    print(f"segments of {done} videos in {args.out}, a picture of them in {args.out / 'contact_sheet.png'}")
    return 0
