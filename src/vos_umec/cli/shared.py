"""What several commands share: settings of a segmenter, the mask of a user, a picture that compares segmenters."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.masks import read_mask
from vos_umec.io.source import FrameSource
from vos_umec.matching.readout import Readout
from vos_umec.viz.overlays import overlay
from vos_umec.viz.sheets import contact_sheet, save_picture

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


def save_comparison(
    path: Path,
    source: FrameSource,
    prompts: Mapping[int, np.ndarray | Path],
    segmenters: Mapping[str, VideoSegmenter],
    truth: Mapping[int, Path] | None = None,
) -> None:
    """Write a picture of six frames of a video: first its `truth`, if any, then a row for each new segmenter.

    `prompts` and `truth` are masks by frame index; `segmenters` are named by the label of their row.
    """
    shown = sorted({round(i * (len(source) - 1) / 5) for i in range(6)})
    rows = {} if truth is None else {"truth": [read_mask(truth[i]) for i in shown]}
    for label, segmenter in segmenters.items():
        rows[label] = [ids for i, ids in segmenter.segment(source, prompts) if i in shown]
    frames = source.read(shown)
    pictures = [[overlay(frame, ids) for frame, ids in zip(frames, row, strict=True)] for row in rows.values()]
    save_picture(path, contact_sheet(pictures, labels=[[label] * len(shown) for label in rows]))
