"""Segment one video from the mask of one frame.

Example:
    vos-umec segment clip.mp4 --mask first.png --out out    # writes out/masks/*.png and out/overlay.mp4
    vos-umec segment clip.mp4 --mask first.png --out out --rounds 0 --short-side 240    # faster, less exact
"""

import logging
from pathlib import Path
from typing import Any

from vos_umec.cli.shared import SEGMENTER, nested_readout, read_prompt
from vos_umec.device import pick_device
from vos_umec.errors import ConfigError, DataError
from vos_umec.inference.load import load_segmenter
from vos_umec.io.masks import write_mask
from vos_umec.io.pipeline import WriteBehind, read_ahead
from vos_umec.io.source import open_source
from vos_umec.io.video_writer import VideoWriter
from vos_umec.progress import progress
from vos_umec.shipped import SHIPPED
from vos_umec.viz.overlays import overlay

log = logging.getLogger(__name__)
SETTINGS = SEGMENTER


def run(
    video: Path,
    *,
    mask: Path,
    out: Path,
    checkpoint: Path | None = None,
    frame: int = 0,
    device: str = "auto",
    **settings: Any,
) -> None:
    """Segment a video; write a mask a frame and an overlay video.

    Args:
        video: A video file or a folder of frames.
        mask: The mask of one frame, an indexed PNG: 0 is background, 1 to 254 are objects.
        out: Folder for masks/*.png and overlay.mp4.
        checkpoint: A .ckpt or .safetensors file; without it, the model that comes with vos_umec.
        frame: Index of the frame that the mask belongs to.
        device: auto, cpu, cuda, cuda:1 or mps.
        **settings: Arguments of `VideoSegmenter.from_protocol` and of `Readout` that replace the model's own.
    """
    source = open_source(video)
    if not 0 <= frame < len(source):
        raise ConfigError(f"--frame is {frame}, and the video has frames 0 to {len(source) - 1}")
    prompt = read_prompt(mask, video, source)
    segmenter = load_segmenter(checkpoint or SHIPPED, pick_device(device), **nested_readout(settings))
    if frame:
        print(f"the mask belongs to frame {frame}: the frames before it get empty masks")
    names = source.names
    others = {path.stem for path in (out / "masks").glob("*.png")} - set(names)
    if others:
        log.warning("%d masks in %s belong to no frame of this video; they stay", len(others), out / "masks")
    try:
        with VideoWriter(out / "overlay.mp4", source.fps) as movie, WriteBehind() as writer:
            for index, pixels in progress(read_ahead(source), "segmenting", len(source)):
                ids = segmenter.step(pixels, prompt if index == frame else None)
                writer.put(write_mask, out / "masks" / f"{names[index]}.png", ids)
                writer.put(lambda pixels, ids: movie.write(overlay(pixels, ids)), pixels, ids)
    except OSError as error:  # from writing; reading raises VideoReadError
        raise DataError(f"cannot write to {out}: {error}; check that it exists and has space left") from error
    print(f"{len(source)} masks in {out / 'masks'}, the video with its masks in {out / 'overlay.mp4'}")
