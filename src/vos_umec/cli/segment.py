"""`vos-umec segment`: one video, one mask, every frame."""

import argparse
import logging
from pathlib import Path

from vos_umec.cli.options import add_readout, given_readout
from vos_umec.errors import ConfigError, DataError
from vos_umec.shipped import SHIPPED

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of `vos-umec segment`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["a.mp4", "--mask", "a.png", "--checkpoint", "c.ckpt", "--out", "out"]).frame
        0
    """
    parser.add_argument("video", type=Path, help="a video file or a folder of frames")
    parser.add_argument(
        "--mask", type=Path, required=True, help="mask of one frame: an indexed PNG, 0 = background"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=SHIPPED,
        help="a .ckpt or .safetensors file (default: the model that comes with vos_umec)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for masks/*.png and overlay.mp4")
    parser.add_argument("--frame", type=int, default=0, help="index of the frame the mask is of (default: 0)")
    add_readout(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")


def run(args: argparse.Namespace) -> int:
    """Segment a video; write one indexed PNG a frame and an overlay video.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        0, the exit status.

    Raises:
        VosUmecError: If the video, the mask or the checkpoint cannot be used.
    """
    from rich.progress import track

    from vos_umec.cli.options import read_given_mask
    from vos_umec.device import pick_device
    from vos_umec.inference.load import load_segmenter
    from vos_umec.io.masks import write_mask
    from vos_umec.io.pipeline import WriteBehind, read_ahead
    from vos_umec.io.source import open_source
    from vos_umec.io.video_writer import VideoWriter
    from vos_umec.viz.overlay import overlay

    source = open_source(args.video)
    if not 0 <= args.frame < len(source):
        raise ConfigError(f"--frame {args.frame} is not in the video, which has frames 0 to {len(source) - 1}")
    mask = read_given_mask(args.mask, args.video, source)
    segmenter = load_segmenter(args.checkpoint, pick_device(args.device), **given_readout(args))
    names = source.names
    if args.frame:
        print(f"the mask is of frame {args.frame}: those before it show no object")
    others = {path.stem for path in (args.out / "masks").glob("*.png")} - set(names)
    if others:
        log.warning("%d masks in %s are of no frame of this video; they stay", len(others), args.out / "masks")
    try:
        with VideoWriter(args.out / "overlay.mp4", source.fps) as video, WriteBehind() as writer:
            for index, frame in track(read_ahead(source), total=len(source), description="segmenting"):
                ids = segmenter.step(frame, mask if index == args.frame else None)
                writer.put(write_mask, args.out / "masks" / f"{names[index]}.png", ids)
                writer.put(lambda frame, ids: video.write(overlay(frame, ids)), frame, ids)
    except OSError as error:  # the writer's: reading gives a VideoReadError
        raise DataError(f"cannot write to {args.out}: {error}; check its place and the room there") from error
    print(f"{len(source)} masks in {args.out / 'masks'}, picture in motion in {args.out / 'overlay.mp4'}")
    return 0
