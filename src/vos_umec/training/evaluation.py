"""Evaluation on annotated sequences: J&F of the model and of two baselines, a picture, a table and files."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch.distributed as dist
from rich.table import Table
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.data.sequences import VideoSequence
from vos_umec.distributed import gather_objects
from vos_umec.errors import ConfigError
from vos_umec.inference.memory import MemoryReadout
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.atomic import atomic_path
from vos_umec.io.frames import Frame, resize_frame
from vos_umec.io.masks import Ids, read_mask
from vos_umec.io.png import indexed_png
from vos_umec.io.written import WrittenFiles
from vos_umec.metrics.davis import DavisScore
from vos_umec.metrics.results import Scores
from vos_umec.metrics.sequence import Curve, Row, SequenceScorer
from vos_umec.models.encoder import Features
from vos_umec.models.umec import PropagationNetwork
from vos_umec.training.pictures import SHOWN, FrameChoice, ShownFrame, choose_frames
from vos_umec.viz.by_product import ByProduct
from vos_umec.viz.overlays import overlay
from vos_umec.viz.sheets import contact_sheet, save_picture

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]

_WIDTH = 400  # of a picture
_MOST = 20
"""Sequences on a picture, at most."""


class _Row(NamedTuple):
    labels: list[str]  # the first of them names sequence and frame
    pictures: list[Frame]


class ResultSheet:
    """One frame of each sequence, three quarters of the way, where drift shows: the truth beside every method."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def moment(self, sequence: VideoSequence) -> int | None:
        """The frame to show of an annotated sequence; None once the sheet is full."""
        annotated = sorted(sequence.annotations)
        return annotated[3 * len(annotated) // 4] if annotated and len(self._rows) < _MOST else None

    def add(
        self, sequence: VideoSequence, index: int, found: Mapping[str, Ids], scores: Mapping[str, float]
    ) -> None:
        """Add a row: the truth, then every method.

        Args:
            sequence: The sequence.
            index: The annotated frame to show.
            found: The ids (H, W) of this frame by method.
            scores: J&F of the whole sequence by method, a fraction.
        """
        frame = sequence.source().read([index])[0]
        masks = [read_mask(sequence.annotations[index]), *found.values()]
        size = (round(frame.shape[0] * _WIDTH / frame.shape[1]), _WIDTH)
        pictures = [resize_frame(overlay(frame, ids), size) for ids in masks]
        figures = [f"{method.replace('_', ' ')} {100 * scores[method]:.0f}" for method in found]
        self._rows.append(_Row([f"{sequence.name}, frame {index}", *figures], pictures))

    def save(self, file: Path) -> Path | None:
        """Write the picture, a row for each sequence of all processes, by name. Call it on every process.

        Args:
            file: Where to, a PNG.

        Returns:
            The file; None if there is nothing to show or it cannot be written, and on all processes but the first.
        """
        rows = self._rows
        if dist.is_available() and dist.is_initialized():
            parts: list[list[_Row]] = [[]] * dist.get_world_size()
            dist.all_gather_object(parts, rows)
            rows = [row for part in parts for row in part] if dist.get_rank() == 0 else []
        unique = {row.labels[0]: row for row in rows}  # a sampler may give a sequence to two processes
        rows = [unique[name] for name in sorted(unique)[:_MOST]]
        if not rows:
            return None
        columns = len(rows[0].pictures)
        sheet = contact_sheet([row.pictures for row in rows], [row.labels for row in rows], width=_WIDTH * columns)
        with ByProduct(file):
            save_picture(file, sheet)
            return file
        return None


COPY, PROPAGATION, WHOLE = "copy_first_mask", "label_propagation", "umec"


@dataclass(frozen=True)
class EvaluationSettings:
    """How validation, test and prediction segment.

    Attributes:
        segmenter: Arguments of VideoSegmenter, or {"protocol": "crw"} and what differs from it; None for the
            defaults.
        baselines: Whether `test` also scores copying the first mask and label propagation.
    """

    segmenter: dict[str, Any] | None = None
    baselines: bool = True

    def __post_init__(self) -> None:
        """Check the kind of the settings."""
        if not isinstance(self.segmenter, Mapping | None):
            raise ConfigError(
                f"evaluation.segmenter is {self.segmenter!r}; expected a mapping of arguments of "
                "VideoSegmenter, {} for its defaults"
            )


class SequenceEvaluation:
    """J&F of the whole model and, if wanted, of its two baselines, sequence by sequence.

    Args:
        network: The network.
        segmenter: Arguments of VideoSegmenter, or "protocol" and what differs from it, the same for the model and
            for label propagation.
        baselines: Score also copying the first masks, and the encoder alone (no refinement round).
        extremes: Keep the best and the worst frames of each sequence, besides one that is always the same.
        progress: Wrapper of the loop over the frames of a sequence, called with the loop, what is done and the
            number of frames, such as `vos_umec.progress.progress`; None for none.

    Raises:
        ConfigError: If VideoSegmenter has no such argument, or there is no such protocol.

    Attributes:
        main: The method of the model: WHOLE, or PROPAGATION where there are no rounds of refinement.
        sheet: A picture of the first sequences.
        frames: Single frames to show.
        curves: J and F of each object in each scored frame, by method.
    """

    def __init__(
        self,
        network: PropagationNetwork,
        segmenter: Mapping[str, Any],
        baselines: bool,
        extremes: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.network = network
        self.extremes = extremes
        self.progress = progress
        self.segmenter = dict(segmenter)
        device = next(network.parameters()).device
        self.main = WHOLE if self._new_segmenter(WHOLE).rounds else PROPAGATION  # wrong settings show at once
        methods = [COPY, PROPAGATION, self.main] if baselines else [self.main]
        self.scores = {method: DavisScore().to(device) for method in methods}
        self.sheet = ResultSheet()
        self.frames: list[ShownFrame] = []
        self.curves: dict[str, list[Curve]] = {method: [] for method in methods}
        self._begun = 0  # sequences

    def update(self, sequence: VideoSequence) -> None:
        """Segment one sequence by every method and score it."""
        scorers = {method: SequenceScorer(sequence.name) for method in self.scores}
        shown, found = self.sheet.moment(sequence), {}
        choice = FrameChoice(sequence, self._begun < SHOWN, self.extremes)
        self._begun += 1
        for method, index, prediction in self._segment(sequence):
            if index in sequence.annotations:
                scorers[method].update(prediction, read_mask(sequence.annotations[index]))
                if method == self.main:
                    choice.see(index, prediction, scorers[method].last)
            if index == shown:
                found[method] = prediction
        rows = {method: scorer.rows() for method, scorer in scorers.items()}
        names = sequence.source().names
        scored = [names[index] for index in sorted(sequence.annotations)]
        for method, score in self.scores.items():
            score.update_rows(rows[method])
            self.curves[method] += scorers[method].curves(scored)
        means = {method: float(np.mean([row["J&F"] for row in rows[method]])) for method in self.scores}
        self.frames = choose_frames(self.frames + choice.frames(means[self.main]))
        if shown is not None:
            self.sheet.add(sequence, shown, found, means)

    def compute(self) -> dict[str, dict[str, Tensor]]:
        """The seven figures by method; call it on every process."""
        return {method: score.compute() for method, score in self.scores.items()}

    def rows(self) -> dict[str, list[Row]]:
        """Figures of every object by method; call it on every process."""
        return {method: score.rows() for method, score in self.scores.items()}

    def gathered_curves(self) -> dict[str, list[Curve]]:
        """J and F of every object over time by method, sorted as `rows`; call it on every process."""
        parts = gather_objects(self.curves)
        gathered = {}
        for method in self.scores:
            unique = {(each["sequence"], each["object"]): each for part in parts for each in part[method]}
            gathered[method] = [unique[key] for key in sorted(unique)]
        return gathered

    def _segment(self, sequence: VideoSequence) -> Iterator[tuple[str, int, np.ndarray]]:
        if COPY in self.scores:
            for index, prediction in copy_first_mask(sequence):
                yield COPY, index, prediction
        segmenters = {method: self._new_segmenter(method) for method in self.scores if method != COPY}
        if len(segmenters) == 2:
            segmenters[WHOLE].reader = segmenters[PROPAGATION]
        runs = [each.segment(sequence.source(), sequence.prompt_masks()) for each in segmenters.values()]
        together: Iterable[tuple[tuple[int, np.ndarray], ...]] = zip(*runs, strict=True)  # label propagation first
        if self.progress is not None:
            together = self.progress(together, f"segmenting {sequence.name}", len(sequence.source()))
        for found in together:  # frame by frame
            for method, (index, prediction) in zip(segmenters, found, strict=True):
                yield method, index, prediction

    def _new_segmenter(self, method: str) -> "SharingSegmenter":
        settings = self.segmenter if method == WHOLE else {**self.segmenter, "rounds": 0}
        return SharingSegmenter.from_protocol(self.network, **settings)


class SharingSegmenter(VideoSegmenter):
    """A segmenter that may reuse E's features and the search for the best cells, most of its work, of another one.

    This is possible because the search depends on keys alone, and both have the keys of the same frames in memory;
    with `search_margin` it depends on masks, too, and is each segmenter's own. The other one takes each step first.
    """

    reader: "SharingSegmenter | None" = None
    features: Features

    def _encode(self, image: Tensor) -> Features:
        self.features = super()._encode(image) if self.reader is None else self.reader.features
        return self.features

    def _readout(self, key: Tensor) -> MemoryReadout:
        if self.reader is None or self.search_margin is not None:
            self.found = super()._readout(key)
        else:
            self.found = MemoryReadout(self.memory, self.reader.found.grid, self.reader.found.parts)
        return self.found


def copy_first_mask(sequence: VideoSequence) -> Iterator[tuple[int, np.ndarray]]:
    """The baseline that does nothing: every object stays where its reference mask shows it.

    Args:
        sequence: A sequence with its reference masks.

    Yields:
        (frame index, ids (H, W) uint8).
    """
    result: np.ndarray | None = None
    prompts = sequence.prompt_masks()
    for index in range(len(sequence.source())):
        if index in prompts:
            mask = prompts[index]
            shown = (mask != 0) & (mask != IGNORE)
            result = np.where(shown, mask, 0 if result is None else result).astype(np.uint8)
        if result is not None:
            yield index, result


def write_masks(segmenter: VideoSegmenter, sequence: VideoSequence, folder: Path, watched: Progress) -> None:
    """Segment one sequence and write the masks of its required frames to `folder/<sequence>/<frame>.png`.

    Raises:
        DataError: Masks are there that this program did not write.
    """
    source, written = sequence.source(), WrittenFiles(folder)
    paths = [folder / sequence.name / f"{name}.png" for name in source.names]
    written.require_own(paths, "choose another folder for the run (trainer.logger.save_dir)")
    frames = segmenter.segment(source, sequence.prompt_masks())
    for index, ids in watched(frames, f"segmenting {sequence.name}", len(source)):
        if not sequence.required or index in sequence.required:
            written.write(paths[index], indexed_png(ids))


def save_scores(
    rows: Mapping[str, list[Row]], folder: Path, curves: Mapping[str, list[Curve]] | None = None
) -> None:
    """Write scores to `METHOD.json` files, in the format of `vos-umec evaluate --json`.

    Args:
        rows: `SequenceEvaluation.rows()`.
        folder: Where to.
        curves: `SequenceEvaluation.gathered_curves()`.
    """
    for method, objects in rows.items():
        with atomic_path(folder / f"{method}.json") as temporary:
            scores = Scores(objects, (curves or {}).get(method, []))
            temporary.write_text(scores.to_json(), encoding="utf-8")


def score_table(rows: Mapping[str, list[Row]]) -> Table:
    """A table of `SequenceEvaluation.rows()`: J&F in per cent, an object a line and a method a column."""
    table = Table("sequence", "object", caption="J&F in per cent; mean over objects", caption_justify="left")
    for method in rows:
        table.add_column(method.replace("_", " "), justify="right")
    for line in zip(*rows.values(), strict=True):
        figures = [f"{100 * float(row['J&F']):.1f}" for row in line]
        table.add_row(str(line[0]["sequence"]), str(line[0]["object"]), *figures)
    table.add_section()
    means = [f"{100 * float(np.mean([row['J&F'] for row in of])):.1f}" for of in rows.values()]
    table.add_row("all", f"{len(next(iter(rows.values())))} objects", *means, style="bold")
    return table
