"""Compare a protocol with the code it repeats: the share of pixels with the same id, and the scores of both.

python experiments/parity.py FOLDER --davis DAVIS

The folder holds what the original's own code wrote for sequences of DAVIS, and how to do the same:

    FOLDER/results/SEQUENCE/00000.png ...   indexed masks, one for each frame
    FOLDER/parity.yaml                      as below; other keys are not allowed

    segmenter: {protocol: crw}              arguments of VideoSegmenter.from_protocol
    network:                                as for `build_network`
      encoder: {class_path: vos_umec.TrunkEncoder, init_args: {padding: reflect}}
    init_from: {encoder: crw.pth, used_labels: false}    as for training; a file is looked for in FOLDER

Scores that nearly tie fall the other way on other devices and with other releases of torch, so run both codes on
one machine. CRW's code writes colors, which its eval/convert_davis.py turns into indexed masks.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from summary import markdown_table
from vos_umec.data.davis import davis_sequences
from vos_umec.data.sequences import VideoSequence, require_folder, subfolders
from vos_umec.errors import ConfigError, DataError, MaskError, VosUmecError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.masks import read_mask
from vos_umec.metrics.sequence import Row, SequenceScorer, overall
from vos_umec.models.factory import build_network
from vos_umec.models.model_file import initialize

SETTINGS = "parity.yaml"


@dataclass(frozen=True)
class Comparison:
    """One sequence by the original's code and by ours.

    Attributes:
        sequence: Its name.
        frames: How many frames are compared: all but the first, which is given.
        equal: Share of pixels with the same id, 0 to 1.
        original: Scores of the original's masks, a row for each object.
        ours: Scores of our masks.
    """

    sequence: str
    frames: int
    equal: float
    original: list[Row]
    ours: list[Row]


def read_settings(folder: Path) -> dict[str, Any]:
    """What `parity.yaml` holds, with the files of `init_from` found in its folder.

    Raises:
        ConfigError: If the file cannot be read, or has no protocol, no network, or a key that is not known.
    """
    path = folder / SETTINGS
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        known = {"segmenter", "network", "init_from"}
        if not settings.keys() <= known or not {"segmenter", "network"} <= settings.keys():
            raise ValueError(f"found the keys {', '.join(map(str, settings))}")
        if "protocol" not in settings["segmenter"]:
            raise ValueError("found no protocol")
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"cannot read {path} ({' '.join(str(error).split())}); expected the keys segmenter, with a protocol, "
            "network and init_from"
        ) from error
    start = settings.get("init_from")
    if isinstance(start, str):
        settings["init_from"] = _found(folder, start)
    elif isinstance(start, Mapping):
        settings["init_from"] = {
            key: _found(folder, value) if key in ("encoder", "path") else value for key, value in start.items()
        }
    return dict(settings)


def make_segmenter(settings: Mapping[str, Any], device: str = "cpu") -> VideoSegmenter:
    """The segmenter that the settings describe.

    Raises:
        ConfigError: If a setting is wrong.
        CheckpointError: If the weights cannot be read or are of another network.
    """
    network = build_network(settings["network"])
    if settings.get("init_from") is not None:
        initialize(network, settings["init_from"])
    return VideoSegmenter.from_protocol(network.to(device).eval(), **settings["segmenter"])


def compare(segmenter: VideoSegmenter, sequence: VideoSequence, results: Path) -> Comparison:
    """Segment one sequence and compare it with the original's masks.

    Args:
        segmenter: The segmenter; it is reset first.
        sequence: The sequence, with its true masks.
        results: Folder of the original's masks, `SEQUENCE/FRAME.png`.

    Raises:
        MaskError: If a mask of the original is missing, or has another size than the frame.
    """
    original, ours = SequenceScorer(sequence.name), SequenceScorer(sequence.name)
    equal: list[float] = []
    names = sequence.source().names
    segmenter.reset()
    for index, ids in segmenter.segment(sequence.source(), sequence.prompt_masks()):
        path = results / sequence.name / f"{names[index]}.png"
        theirs = read_mask(path)
        if theirs.shape != ids.shape:
            raise MaskError(f"{path} has {theirs.shape} pixels (H, W) where its frame has {ids.shape}")
        if index > 0:
            equal.append(float(np.mean(theirs == ids)))
        if index in sequence.annotations:
            truth = read_mask(sequence.annotations[index])
            original.update(theirs, truth)
            ours.update(ids, truth)
    return Comparison(sequence.name, len(equal), float(np.mean(equal)), original.rows(), ours.rows())


def compare_all(folder: Path, davis: Path, split: str, device: str = "cpu") -> Iterator[Comparison]:
    """Compare all sequences of a split whose results are in the folder, one after another.

    Raises:
        DataError: If there are no results, or of no sequence of the split.
    """
    results = folder / "results"
    require_folder(results, "expected the original's masks, results/SEQUENCE/00000.png")
    there = set(subfolders(results))
    sequences = [each for each in davis_sequences(davis, split) if each.name in there]
    if not sequences:
        raise DataError(
            f"{results} has no folder of a sequence of {split}; found {', '.join(sorted(there)) or 'none'}"
        )
    segmenter = make_segmenter(read_settings(folder), device)
    for sequence in sequences:
        yield compare(segmenter, sequence, results)


def table(comparisons: Sequence[Comparison]) -> str:
    """A line for each sequence, and one for all of them: pixels count alike, and so do objects."""
    rows = [["sequence", "frames", "equal pixels", "J&F original", "J&F ours"]]
    rows += [
        [each.sequence, str(each.frames), f"{each.equal:.3%}", _score(each.original), _score(each.ours)]
        for each in comparisons
    ]
    frames = [each.frames for each in comparisons]
    equal = float(np.average([each.equal for each in comparisons], weights=frames))
    original = [row for each in comparisons for row in each.original]
    ours = [row for each in comparisons for row in each.ours]
    rows.append(["**all**", str(sum(frames)), f"{equal:.3%}", _score(original), _score(ours)])
    return markdown_table(rows)


def _score(rows: Sequence[Row]) -> str:
    return f"{100 * overall(rows)['J&F']:.1f}"


def _found(folder: Path, file: str) -> str:
    """A file of the folder, or else what the name means elsewhere: a whole path, "timm" or "shipped"."""
    return str(folder / file) if (folder / file).is_file() else file


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what the original wrote, and parity.yaml")
    parser.add_argument("--davis", type=Path, required=True, help="DAVIS 2017, 480p")
    parser.add_argument("--split", default="val", help="which sequences (default: val)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where ours runs")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(table(list(compare_all(args.folder, args.davis, args.split, args.device))))


if __name__ == "__main__":
    try:
        main()
    except VosUmecError as error:
        sys.exit(f"parity.py: error: {error}")
