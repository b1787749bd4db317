"""`vos-umec cluster`: the space-time segments that training would learn from, to look at or to use."""

import argparse
import logging
from pathlib import Path

from vos_umec.errors import DataError
from vos_umec.shipped import SHIPPED

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

    from vos_umec.cli.device import pick_device
    from vos_umec.clustering.segments import SpaceTimeClusterer
    from vos_umec.clustering.video import cluster_video, frame_window, video_seed
    from vos_umec.data.index import scan
    from vos_umec.io.frames import Frame
    from vos_umec.io.masks import write_mask
    from vos_umec.io.source import open_source
    from vos_umec.metrics.coverage import covered_objects
    from vos_umec.training.checkpoint import load_network
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
