"""Segment one video from the masks of one frame or of several.

Example:
    vos-umec segment clip.mp4 --mask first.png --out out    # writes out/masks/*.png and out/overlay.mp4
    vos-umec segment clip.mp4 --mask first.png --out out --fast --short-side 240    # much faster, less exact
    vos-umec segment clip.mp4 --mask 40=middle.png --out out --backward    # from frame 40 to both ends
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

from vos_umec.cli.outputs import Outputs
from vos_umec.cli.prompts import READING, Prompts, read_prompts, require_files, split_reading
from vos_umec.cli.shared import SEGMENTER, nested_readout
from vos_umec.data.probe import open_probed
from vos_umec.device import pick_device
from vos_umec.errors import DataError, VideoReadError
from vos_umec.inference.inputs import cells_of_objects
from vos_umec.inference.load import load_segmenter
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.inference.video import walk
from vos_umec.io.pipeline import WriteBehind
from vos_umec.io.source import FrameSource
from vos_umec.models.hub import find_model
from vos_umec.progress import progress
from vos_umec.shipped import SHIPPED

log = logging.getLogger(__name__)
SETTINGS = READING | SEGMENTER


def run(
    video: Path,
    *,
    out: Path,
    mask: list[str] | None = None,
    object: list[str] | None = None,
    frame: str | None = None,
    ids: list[str] | None = None,
    backward: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    soft: bool = False,
    rle: bool = False,
    checkpoint: Path | None = None,
    device: str = "auto",
    fast: bool = False,
    **settings: Any,
) -> None:
    """Segment a video; write a mask a frame and an overlay video.

    Frames before the first given mask are left alone, unless --backward is given.

    Args:
        video: A video file or a folder of frames.
        out: Folder for masks/*.png and overlay.mp4. A file in it that vos-umec did not write is never replaced.
        mask: A mask as FILE or FRAME=FILE; give --mask again for further frames, or further objects of a frame. An
            indexed PNG (0 is background, 1 to 254 are objects), a labelling tool's mask, or LabelMe or COCO JSON.
            Without a frame, the file's name may say which, as 00040.png does; else it is the first.
        object: The mask of one object, as FILE or ID=FILE; give --object again for further objects.
        frame: The frame that the masks belong to, by its name or its index.
        ids: Follow only these objects, as the mask names them (3,7 or '#ff0000' or a label).
        backward: Go from the first given mask to the frames before it, too.
        resume: Go on where an interrupted run with the same arguments stopped.
        overwrite: Replace masks and videos in OUT that vos-umec did not write. A given mask is never replaced.
        soft: Also write soft/ID/*.png, the probability of each object, 0 to 255.
        rle: Also write masks.json, COCO's format with run lengths.
        checkpoint: A .ckpt or .safetensors file, a folder or a name on the Hub; without it, vos_umec's own.
        device: auto, cpu, cuda, cuda:1 or mps.
        fast: Search from coarse to fine and near the objects: on a CPU a frame takes a third of the time, and
            scores are 0.3 J&F lower.
        **settings: Arguments of `VideoSegmenter.from_protocol` and of `Readout` that replace the model's own, and
            those of `MaskReading`.
    """
    place = pick_device(device)
    reading, settings = split_reading(settings)
    require_files(mask or [], object or [], reading)
    model = find_model(checkpoint or SHIPPED)
    segmenter = load_segmenter(model, place, fast=fast, **nested_readout(settings))
    source = open_probed(video)
    prompts = read_prompts(video, source, mask or [], object or [], frame, ids or [], reading)
    for line in prompts.lines:
        print(line, flush=True)
    _warn_of_small_objects(segmenter, prompts, source)
    asked = {
        "video": [video.name, len(source), list(source.size)],
        "masks": prompts.digest(),
        "checkpoint": hashlib.sha256(model.read_bytes()).hexdigest(),
        "settings": {name: str(value) for name, value in sorted({**settings, "fast": fast}.items())},
        "backward": backward,
    }
    outputs = Outputs(out, source, prompts, backward, soft=soft, rle=rle)
    outputs.require_room(overwrite)
    done = outputs.resumed(segmenter, asked) if resume else outputs.start(asked)
    if prompts.first and not backward:
        print(f"frames before {source.names[prompts.first]} are left alone; --backward segments them, too")
    stopped: BaseException | None = None
    try:
        with outputs.movie(done) as movie, WriteBehind() as writer:
            steps = walk(segmenter, source, prompts.masks, backward, done=done, return_probabilities=soft)
            left = outputs.frames - done
            try:
                for index, pixels, found, probabilities in progress(steps, "segmenting", left):
                    writer.put(outputs.write, index, found, segmenter.ids, probabilities)
                    writer.put(movie.write, index, pixels, found)
                    done += 1
                    outputs.save_state(writer, segmenter, done)
            except (VideoReadError, KeyboardInterrupt) as error:
                stopped = error
                if isinstance(error, VideoReadError) and done:
                    outputs.save_state(writer, segmenter, done, now=True)
    except OSError as error:  # from writing; reading raises VideoReadError
        raise DataError(f"cannot write to {out}: {error}; check that it exists and has space left") from error
    written = f"{done} of {outputs.frames} masks in {out / 'masks'}"
    if stopped is not None:
        print(f"{written}; --resume goes on from there", flush=True)
        raise stopped
    try:
        outputs.finish()
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error}; check that it has space left") from error
    print(f"{done} masks in {out / 'masks'}{outputs.told()}")


def _warn_of_small_objects(segmenter: VideoSegmenter, prompts: Prompts, source: FrameSource) -> None:
    """Say which objects are too small to be followed at the working size."""
    for index, mask in prompts.masks.items():
        cells = cells_of_objects(segmenter.resizing, mask)
        small = sorted(number for number, filled in cells.items() if filled < 0.5)
        if small:
            shown = ", ".join(map(str, small[:8])) + ", ..." * (len(small) > 8)
            log.warning(
                "object %s in frame %s fills no cell of the working size (at most %.0f %% of one), so it can "
                "hardly be followed; a larger --short_side helps (now %s)",
                shown,
                source.names[index],
                100 * max(cells[number] for number in small),
                segmenter.short_side or "the video's own",
            )
