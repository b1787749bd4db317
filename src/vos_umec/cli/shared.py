"""What several commands share: settings of a segmenter, the mask of a user, a picture that compares segmenters."""

import logging
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from vos_umec.errors import VideoReadError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.frames import Frame, resize_frame
from vos_umec.io.masks import read_mask
from vos_umec.io.pipeline import read_ahead
from vos_umec.io.source import FrameSource
from vos_umec.matching.readout import Readout
from vos_umec.progress import progress
from vos_umec.viz.overlays import overlay
from vos_umec.viz.sheets import contact_sheet, save_picture

log = logging.getLogger(__name__)

SEGMENTER = {
    "how to segment (what is not given is as the model was validated, else the default)": (
        VideoSegmenter.from_protocol,
        VideoSegmenter,
        Readout,
    )
}
"""Options of a command that takes every setting of a segmenter."""


def nested_readout(options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a segmenter side by side, as the command line takes them, become those of a configuration.

    Example:
        >>> nested_readout({"rounds": 0, "top_k": 5, "radius": 12})
        {'rounds': 0, 'readout': {'top_k': 5, 'radius': 12}}
    """
    names = {field.name for field in fields(Readout)}
    settings = {name: value for name, value in options.items() if name not in names}
    readout = {name: value for name, value in options.items() if name in names}
    return {**settings, "readout": readout} if readout else settings


_PICTURED, _WIDTH = 6, 400
"""Frames that a comparison shows, and their width in pixels."""


def save_comparison(
    path: Path,
    source: FrameSource,
    prompts: Mapping[int, np.ndarray | Path],
    segmenters: Mapping[str, VideoSegmenter],
    truth: Mapping[int, Path] | None = None,
    seconds: float = math.inf,
) -> None:
    """Write a picture of six frames of a video: first its `truth`, if any, then a row for each new segmenter.

    `prompts` and `truth` are masks by frame index; `segmenters` are named by the label of their row. Frames are
    those from the first prompt on, or before it if it is of the last frame. After `seconds`, and where a frame
    cannot be read, the picture is made of the frames that are segmented by then: two at least, the prompt's too.
    """
    first, every, start = min(prompts), 1, monotonic()
    indices = range(first, len(source)) if first + 1 < len(source) else range(first, -1, -1)
    kept: list[list[Frame]] = []  # small pictures of a frame, one a row: of `every` so many frames
    done = 0
    try:
        for index, frame in progress(
            read_ahead(source, 1, indices), "segmenting frames for a picture", len(indices)
        ):
            prompt = prompts.get(index)
            mask = read_mask(prompt) if isinstance(prompt, Path) else prompt
            found = [segmenter.step(frame, mask) for segmenter in segmenters.values()]
            if done % every == 0:
                masks = [*([] if truth is None else [read_mask(truth[index])]), *found]
                size = (max(1, round(frame.shape[0] * _WIDTH / frame.shape[1])), _WIDTH)
                kept.append([resize_frame(overlay(frame, ids), size) for ids in masks])
            if len(kept) > 8 * _PICTURED:  # few are needed, and it is not known yet which
                kept, every = kept[::2], 2 * every
            done += 1
            if 1 < done < len(indices) and monotonic() - start > seconds:
                log.info("the picture shows the first %d of %d frames: its time is over", done, len(indices))
                break
    except VideoReadError as error:
        if not kept:
            raise
        log.warning("the picture shows the first %d of %d frames: %s", done, len(indices), error)
    places = sorted({round(i * (len(kept) - 1) / (_PICTURED - 1)) for i in range(_PICTURED)})
    labels = [*([] if truth is None else ["truth"]), *segmenters]
    pictures = [[kept[place][row] for place in places] for row in range(len(labels))]
    save_picture(path, contact_sheet(pictures, labels=[[label] * len(places) for label in labels]))
