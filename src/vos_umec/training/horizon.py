"""Measuring by horizon: propagate from true masks at several frames of each sequence, by several segmenters."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vos_umec.constants import IGNORE
from vos_umec.data.sequences import VideoSequence
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.frames import Frame
from vos_umec.io.masks import read_mask
from vos_umec.io.pipeline import one_ahead
from vos_umec.io.source import FrameSource
from vos_umec.metrics.horizon import END, HORIZONS, HorizonRow, HorizonScores, score_objects
from vos_umec.models.umec import PropagationNetwork
from vos_umec.training.evaluation import SharingSegmenter

_AFTER_SEARCH = (
    "rounds",
    "memory_masks",
    "max_extent",
    "crop_margin",
    "mask_sampling",
    "stretch_masks",
    "blend_coarse",
    "weigh_memory",
)
"""Settings that change neither keys nor the search for the best cells."""

_BATCH = 4  # frames read at a time


class _Run(NamedTuple):
    """One start of one sequence."""

    sequence: VideoSequence
    start: int
    wanted: dict[int, list[int | str]]  # the frames to score, and the horizons of each


def measure_horizons(
    network: PropagationNetwork,
    sequences: Sequence[VideoSequence],
    segmenters: Mapping[str, Mapping[str, Any]],
    horizons: Iterable[int] = HORIZONS,
    starts: int = 3,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> HorizonScores:
    """J and F of every object so many frames after its true mask, by several segmenters side by side.

    Each sequence is segmented from several of its frames. Each time the segmenters are given the true masks of all
    objects that this frame shows, and the scores are those of these objects. The first start also goes to the last
    annotated frame, the horizon "end". A start counts for the horizons that end at an annotated frame; one whose
    mask shows no object is left out. As DAVIS has it, an empty mask of an object that is not in the frame scores 1.

    Segmenters whose keys and read-out are set alike share the encoder and the search for the best cells.

    Args:
        network: The network of all segmenters.
        sequences: Annotated sequences.
        segmenters: Arguments of VideoSegmenter (and "protocol") by the name of a method. The others are compared
            with the first, such as {"rounds": 0} for label propagation.
        horizons: Frames after the start, 1 or more.
        starts: Starts in each sequence, evenly spaced over its annotated frames; the first of them is the first.
        progress: Iterates over the starts of all sequences, and may show how far it is.

    Returns:
        The scores by horizon.

    Raises:
        ConfigError: A number is below 1, there is no segmenter, or one has no such argument.
        DataError: There is nothing to score.

    Example:
        >>> import tempfile
        >>> from vos_umec.data.synthetic import SyntheticVOS
        >>> from vos_umec.models.factory import build_network
        >>> videos = SyntheticVOS(tempfile.mkdtemp(), 1, 1, frames=6, size=(32, 48), objects=(1, 1))
        >>> videos.prepare()
        >>> segmenters = {"label_propagation": {"rounds": 0}, "umec": {"rounds": 1}}
        >>> scores = measure_horizons(build_network("tiny"), videos.val_sequences(), segmenters, [1, 3], starts=2)
        >>> [(line["horizon"], line["method"], line["pairs"]) for line in scores.summary()][::2]
        [(1, 'label_propagation', 2), (3, 'label_propagation', 1), ('end', 'label_propagation', 1)]
    """
    horizons = sorted(set(horizons))
    if starts < 1 or not horizons or horizons[0] < 1:
        raise ConfigError(f"starts is {starts} and horizons are {horizons}; expected numbers of 1 or more")
    built = _build_segmenters(network, segmenters)
    runs = [run for sequence in sequences for run in _plan(sequence, horizons, starts)]
    rows = [row for run in progress(runs) for row in _score(run, built)]
    if not rows:
        raise DataError(
            f"nothing to score in {len(sequences)} sequences: expected annotated frames "
            f"{', '.join(map(str, horizons))} frames after one that shows an object; give other horizons"
        )
    return HorizonScores(rows)


def _build_segmenters(
    network: PropagationNetwork, settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, SharingSegmenter]:
    """The segmenters by method; each shares the search of the first one before it that searches alike."""
    built: dict[str, SharingSegmenter] = {}
    readers: list[tuple[dict[str, Any], SharingSegmenter]] = []
    for method, own in settings.items():
        segmenter = SharingSegmenter.from_protocol(network, **own)
        search = {name: value for name, value in own.items() if name not in _AFTER_SEARCH}
        segmenter.reader = next((reader for other, reader in readers if other == search), None)
        if segmenter.reader is None:
            readers.append((search, segmenter))
        built[method] = segmenter
    if not built:
        raise ConfigError("there is no segmenter to measure; give at least one, such as {'umec': {}}")
    return built


def _plan(sequence: VideoSequence, horizons: Sequence[int], starts: int) -> Iterator[_Run]:
    """The starts of a sequence that have a frame to score."""
    annotated = sorted(sequence.annotations)
    for number in range(min(starts, len(annotated))):
        start = annotated[number * len(annotated) // starts]
        wanted: dict[int, list[int | str]] = {start + h: [h] for h in horizons if start + h in sequence.annotations}
        if number == 0 and annotated[-1] > start:
            wanted.setdefault(annotated[-1], []).append(END)
        if wanted:
            yield _Run(sequence, start, wanted)


def _score(run: _Run, segmenters: Mapping[str, SharingSegmenter]) -> Iterator[HorizonRow]:
    """The rows of one start."""
    sequence, start, wanted = run
    prompt = read_mask(sequence.annotations[start])  # (H, W)
    objects = sorted(set(np.unique(prompt).tolist()) - {0, IGNORE})
    if not objects:
        return
    for segmenter in segmenters.values():
        segmenter.reset()
    for index, frame in _read(sequence.source(), range(start, max(wanted) + 1)):
        mask = prompt if index == start else None
        found = {method: segmenter.step(frame, mask) for method, segmenter in segmenters.items()}
        if index not in wanted:
            continue
        truth = read_mask(sequence.annotations[index])  # (H, W)
        for method, ids in found.items():
            place: HorizonRow = {"sequence": sequence.name, "start": start, "method": method, "frame": index}
            for figures in score_objects(ids, truth, objects):
                yield from ({**place, "horizon": horizon, **figures} for horizon in wanted[index])


def _read(source: FrameSource, frames: range) -> Iterator[tuple[int, Frame]]:
    """(index, frame (H, W, 3)) of some frames; the next ones are read while the caller works on these."""
    batches = (frames[place : place + _BATCH] for place in range(0, len(frames), _BATCH))
    for indices, coming in one_ahead(source.read, batches):
        yield from zip(indices, coming.result(), strict=True)
