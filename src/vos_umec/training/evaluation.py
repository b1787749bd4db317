"""Scoring a network on annotated sequences, with the simplest baselines beside it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from torch import Tensor

from vos_umec.data.layouts import VideoSequence
from vos_umec.inference.recall import Recall
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.atomic import atomic_path
from vos_umec.io.masks import read_mask
from vos_umec.metrics.davis import DavisScore
from vos_umec.metrics.results import Scores
from vos_umec.metrics.sequence import Row, SequenceScorer
from vos_umec.models.propagation import PropagationNetwork
from vos_umec.training.result_sheet import ResultSheet

COPY, PROPAGATION, WHOLE = "copy_first_mask", "label_propagation", "umec"


class SequenceEvaluation:
    """J&F of the whole model and, where asked, of its two baselines, sequence by sequence.

    Args:
        network: The network.
        segmenter: Arguments of VideoSegmenter, or "protocol" and what differs from it, the same for the model and
            for label propagation.
        baselines: Score also copying the given masks, and the encoder alone (no refinement round).

    Raises:
        ConfigError: If VideoSegmenter has no such argument, or there is no such protocol.

    Attributes:
        main: The method that is asked for: WHOLE, or PROPAGATION where there are no rounds of refinement.
        sheet: A picture of the first sequences; it gathers those of all processes when it is saved.
    """

    def __init__(self, network: PropagationNetwork, segmenter: Mapping[str, Any], baselines: bool) -> None:
        self.network = network
        self.segmenter = dict(segmenter)
        device = next(network.parameters()).device
        self.main = WHOLE if self._new_segmenter(WHOLE).rounds else PROPAGATION  # wrong settings show at once
        methods = [COPY, PROPAGATION, self.main] if baselines else [self.main]
        self.scores = {method: DavisScore().to(device) for method in methods}
        self.sheet = ResultSheet()

    def update(self, sequence: VideoSequence) -> None:
        """Segment one sequence by every method and score it."""
        scorers = {method: SequenceScorer(sequence.name) for method in self.scores}
        shown, found = self.sheet.moment(sequence), {}
        for method, index, prediction in self._segment(sequence):
            if index in sequence.annotations:
                scorers[method].update(prediction, read_mask(sequence.annotations[index]))
            if index == shown:
                found[method] = prediction
        rows = {method: scorer.rows() for method, scorer in scorers.items()}
        for method, score in self.scores.items():
            score.update_rows(rows[method])
        if shown is not None:
            means = {method: float(np.mean([row["J&F"] for row in rows[method]])) for method in found}
            self.sheet.add(sequence, shown, found, means)

    def compute(self) -> dict[str, dict[str, Tensor]]:
        """The seven figures by method; call it on every process."""
        return {method: score.compute() for method, score in self.scores.items()}

    def rows(self) -> dict[str, list[Row]]:
        """Figures of every object by method; call it on every process."""
        return {method: score.rows() for method, score in self.scores.items()}

    def _segment(self, sequence: VideoSequence) -> Iterator[tuple[str, int, np.ndarray]]:
        if COPY in self.scores:
            for index, prediction in copy_first_mask(sequence):
                yield COPY, index, prediction
        segmenters = {method: self._new_segmenter(method) for method in self.scores if method != COPY}
        if len(segmenters) == 2:
            segmenters[WHOLE].reader = segmenters[PROPAGATION]
        runs = [each.segment(sequence.source(), sequence.given_masks()) for each in segmenters.values()]
        for found in zip(*runs, strict=True):  # frame by frame, label propagation first
            for method, (index, prediction) in zip(segmenters, found, strict=True):
                yield method, index, prediction

    def _new_segmenter(self, method: str) -> "_SharingSegmenter":
        settings = self.segmenter if method == WHOLE else {**self.segmenter, "rounds": 0}
        return _SharingSegmenter.from_protocol(self.network, **settings)


class _SharingSegmenter(VideoSegmenter):
    """A segmenter that may leave the search for the best cells, most of its work, to one that is a step ahead.

    Keys alone decide which cells are read, and both remember the same frames; what they remember of them differs.
    """

    reader: "_SharingSegmenter | None" = None

    def _read_out(self, key: Tensor) -> Recall:
        if self.reader is None:
            self.found = super()._read_out(key)
        else:
            self.found = Recall(self.memory, self.reader.found.grid, self.reader.found.parts)
        return self.found


def copy_first_mask(sequence: VideoSequence) -> Iterator[tuple[int, np.ndarray]]:
    """The baseline that does nothing: every object stays where it was first shown.

    Args:
        sequence: A sequence with its given masks.

    Yields:
        (frame index, ids (H, W) uint8).
    """
    result: np.ndarray | None = None
    given = sequence.given_masks()
    for index in range(len(sequence.source())):
        if index in given:
            mask = given[index]
            told = (mask != 0) & (mask != 255)
            result = np.where(told, mask, 0 if result is None else result).astype(np.uint8)
        if result is not None:
            yield index, result


def save_scores(rows: Mapping[str, list[Row]], folder: Path) -> None:
    """Write the figures of every method to a file of its own, `METHOD.json`, as `vos-umec evaluate --json` does.

    Args:
        rows: For each method the rows of `SequenceEvaluation.rows()`.
        folder: Where to.

    Example:
        >>> save_scores({}, Path("runs/scores"))
    """
    for method, objects in rows.items():
        with atomic_path(folder / f"{method}.json") as temporary:
            temporary.write_text(Scores(objects).to_json(), encoding="utf-8")


def score_table(rows: Mapping[str, list[Row]]) -> Table:
    """J&F in per cent, an object a line and a method a column, the mean over objects last.

    Args:
        rows: For each method the rows of `SequenceEvaluation.rows()`.

    Returns:
        A table for a terminal or a notebook.

    Example:
        >>> row = {"sequence": "dog", "object": 1, "J&F": 0.5}
        >>> score_table({"umec": [row], "copy": [{**row, "J&F": 0.25}]}).row_count
        2
    """
    table = Table("sequence", "object", caption="J&F in per cent; mean over objects", caption_justify="left")
    for method in rows:
        table.add_column(method.replace("_", " "), justify="right")
    for line in zip(*rows.values(), strict=True):
        figures = [f"{100 * float(row['J&F']):.1f}" for row in line]
        table.add_row(str(line[0]["sequence"]), str(line[0]["object"]), *figures)
    table.add_section()
    means = [f"{100 * float(np.mean([row['J&F'] for row in of])):.1f}" for of in rows.values()]
    table.add_row("all", str(len(next(iter(rows.values())))), *means, style="bold")
    return table
