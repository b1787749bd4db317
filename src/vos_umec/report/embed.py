"""Pictures inside the page, and the best and worst frames of a folder of masks."""

import base64
import logging
import struct
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vos_umec.data.davis import davis_sequences
from vos_umec.errors import VosUmecError
from vos_umec.io.masks import read_mask
from vos_umec.io.picture import open_picture
from vos_umec.report.run_files import ScoreFile
from vos_umec.viz.pairs import pair_picture

log = logging.getLogger(__name__)

EXTREMES = 4
"""Best frames, and worst ones, on a page."""


class Embedded(NamedTuple):
    """A picture as a `data:` address, and its size in pixels."""

    source: str
    width: int
    height: int


def embed(image: Image.Image, width: int, quality: int = 82) -> Embedded:
    """A picture as text, as JPEG, at most `width` pixels wide."""
    small = image.convert("RGB")
    if small.width > width:
        small = small.resize((width, max(1, round(small.height * width / small.width))), Image.Resampling.LANCZOS)
    file = BytesIO()
    small.save(file, format="JPEG", quality=quality, optimize=True)
    return Embedded("data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii"), *small.size)


def embed_file(path: Path, width: int) -> Embedded | None:
    """A picture file as text; None, with a warning, for one that cannot be read."""
    try:
        with open_picture(path) as image:
            return embed(image, width)
    except (OSError, ValueError, SyntaxError, struct.error) as error:  # the last two of broken headers
        log.warning("%s is left out, it cannot be read (%s)", path, error)
        return None


def frame_scores(scores: ScoreFile) -> dict[str, list[tuple[str, float]]]:
    """J&F of each frame, a fraction, the mean over its objects: by sequence, (name of the frame, J&F) in order."""
    found: dict[str, list[tuple[str, float]]] = {}
    by_name: dict[str, list[dict[str, Any]]] = {}
    for curve in scores.curves:
        by_name.setdefault(str(curve["sequence"]), []).append(curve)
    for name, curves in by_name.items():
        means = np.mean([np.add(curve["J"], curve["F"]) / 2 for curve in curves], axis=0)
        found[name] = list(zip(map(str, curves[0]["frames"]), means.tolist(), strict=True))
    return found


def extremes(scores: ScoreFile) -> dict[str, list[tuple[str, str, float]]]:
    """The "best" and the "worst" frames, at most one of a sequence, as (sequence, frame, J&F)."""
    frames = frame_scores(scores)
    best = [(name, *max(each, key=lambda frame: frame[1])) for name, each in frames.items()]
    worst = [(name, *min(each, key=lambda frame: frame[1])) for name, each in frames.items()]
    return {
        "best": sorted(best, key=lambda frame: -frame[2])[:EXTREMES],
        "worst": sorted(worst, key=lambda frame: frame[2])[:EXTREMES],
    }


def extremes_of_masks(scores: ScoreFile) -> dict[str, list[tuple[str, str, float, Embedded]]]:
    """The best and the worst frames of a folder of masks that `evaluate` scored, drawn from its files.

    Returns:
        As `extremes`, with the picture as text; empty where the masks or the data set are not there any more.
    """
    about = scores.about
    if about.get("dataset") != "davis17" or not scores.curves:
        return {}
    try:
        sequences = {each.name: each for each in davis_sequences(about["root"], about["split"])}
        drawn: dict[str, list[tuple[str, str, float, Embedded]]] = {}
        for kind, frames in extremes(scores).items():
            for name, frame, value in frames:
                source = sequences[name].source()
                index = source.names.index(frame)
                truth = read_mask(sequences[name].annotations[index])
                prediction = read_mask(Path(about["results"], name, f"{frame}.png"))
                image = Image.fromarray(pair_picture(source.read([index])[0], truth, prediction))
                drawn.setdefault(kind, []).append((name, frame, value, embed(image, 640)))
    except (VosUmecError, OSError, KeyError, ValueError) as error:
        log.warning("the best and worst frames are left out: %s", error)
        return {}
    return drawn
