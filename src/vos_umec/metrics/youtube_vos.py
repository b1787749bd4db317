"""Scores of one video whose objects may appear on any frame. Imports no torch."""

import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from vos_umec.data.sequences import VideoSequence
from vos_umec.data.youtube_vos import Meta, require_categories
from vos_umec.errors import DataError
from vos_umec.io.masks import read_mask
from vos_umec.metrics.jf import match_radius, pack_pair, pair_f, pair_jaccard
from vos_umec.metrics.results import require_results, useful_processes
from vos_umec.metrics.score_files import read_result, score_in_processes
from vos_umec.metrics.sequence import Row


@dataclass(frozen=True)
class LateMaskFiles:
    """One video to score, whose objects may appear on any frame.

    Attributes:
        name: Name of the video.
        truths: Ground-truth files in the order of the frames.
        results: Folder with a result of the same file name for each that comes after an object's first.
        appears: For each object's id the place in ``truths`` of the mask that introduces it.
    """

    name: str
    truths: tuple[Path, ...]
    results: Path
    appears: Mapping[int, int]

    @property
    def first(self) -> int:
        """Place of the first ground truth with an object; beyond the last where there is none."""
        return min(self.appears.values(), default=len(self.truths))


def score_late_objects(files: LateMaskFiles) -> list[Row]:
    """Read and score one video: each object on every annotated frame after the one that introduces it.

    Ids of a result that are no object of the video count as background, as 255 (void) of the ground truth does.

    Args:
        files: The video.

    Returns:
        One row per object, by id: ``sequence``, ``object``, ``J-Mean`` and ``F-Mean`` as fractions; none for an
        object that is introduced on the last annotated frame.

    Raises:
        MaskError: A mask cannot be read as object ids, or has another size than its ground truth.

    Source:
        METHOD section 6. The server's own rule for the first frame of an object is not published.

    Example:
        >>> score_late_objects(LateMaskFiles("dog", (Path("dog/00000.png"),), Path("results"), {1: 0}))
        []
    """
    J: dict[int, list[float]] = {k: [] for k in sorted(files.appears)}
    F: dict[int, list[float]] = {k: [] for k in J}
    for place, path in enumerate(files.truths[files.first + 1 :], start=files.first + 1):
        target = read_mask(path)
        prediction = read_result(files.results / path.name, target)
        radius = match_radius(target.shape)
        for k in J:
            if place > files.appears[k]:
                pair = pack_pair(prediction == k, target == k)
                J[k].append(pair_jaccard(pair))
                F[k].append(pair_f(pair, radius))
    return [
        {"sequence": files.name, "object": k, "J-Mean": float(np.mean(J[k])), "F-Mean": float(np.mean(F[k]))}
        for k in J
        if J[k]
    ]


log = logging.getLogger(__name__)

PARTS = ("J_seen", "J_unseen", "F_seen", "F_unseen")


@dataclass(frozen=True)
class YouTubeVOSScores:
    """J and F of each object, and their means over seen and over unseen categories.

    Args:
        objects: One row per object: ``sequence``, ``object``, ``category``, ``seen`` (1 or 0), ``J-Mean`` and
            ``F-Mean`` as fractions.

    Example:
        >>> row = {"sequence": "a", "object": 1, "category": "dog", "seen": 1, "J-Mean": 0.5, "F-Mean": 0.75}
        >>> scores = YouTubeVOSScores([row, {**row, "seen": 0, "J-Mean": 0.25, "F-Mean": 0.5}])
        >>> scores.overall
        {'overall': 0.5, 'J_seen': 0.5, 'J_unseen': 0.25, 'F_seen': 0.75, 'F_unseen': 0.5}
    """

    objects: list[Row]

    @property
    def overall(self) -> dict[str, float]:
        """Means over the objects of seen and unseen categories, and the mean of the four; NaN without objects."""
        figures = {}
        for part in PARTS:
            rows = [row for row in self.objects if bool(row["seen"]) == part.endswith("_seen")]
            values = [float(row[f"{part[0]}-Mean"]) for row in rows]
            figures[part] = float(np.mean(values)) if values else math.nan
        return {"overall": float(np.mean(list(figures.values()))), **figures}

    def to_json(self) -> str:
        """The means, null where there is none, and the rows under ``objects``, as fractions."""
        means = {name: None if math.isnan(value) else value for name, value in self.overall.items()}
        return json.dumps({**means, "objects": self.objects}, indent=2) + "\n"

    def table(self) -> Table:
        """Table for a terminal or a notebook, in per cent: a row per object, and the means below."""
        table = Table("video", "object", "category", "seen", caption="per cent", caption_justify="left")
        for name in ("J", "F"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.objects:
            words = (str(row[name]) for name in ("sequence", "object", "category"))
            figures = (f"{100 * float(row[name]):.1f}" for name in ("J-Mean", "F-Mean"))
            table.add_row(*words, "yes" if row["seen"] else "no", *figures)
        table.add_section()
        means = {name: "-" if math.isnan(value) else f"{100 * value:.1f}" for name, value in self.overall.items()}
        for word, part in (("yes", "seen"), ("no", "unseen")):
            count = sum(bool(row["seen"]) == (part == "seen") for row in self.objects)
            table.add_row("all", str(count), f"{part} categories", word, means[f"J_{part}"], means[f"F_{part}"])
        table.add_row("overall", str(len(self.objects)), "mean of the four", "", means["overall"], "", style="bold")
        return table


def evaluate_youtube_vos(
    results: str | Path,
    sequences: Sequence[VideoSequence],
    meta: Meta,
    unseen: Collection[str],
    progress: Callable[[Sequence[VideoSequence]], Iterable[VideoSequence]] = iter,
    workers: int = 1,
) -> YouTubeVOSScores:
    """Score indexed PNGs in ``results/<video>/<frame>.png`` on videos whose every mask is known.

    Args:
        results: Folder with one folder per video.
        sequences: The videos, as `youtube_vos_sequences` lists them.
        meta: Their objects, as `youtube_vos_meta` reads them.
        unseen: The categories that count as unseen; all others are seen.
        progress: Wrapper of the loop over the videos, such as ``rich.progress.track``.
        workers: Processes, this one included, which do not change the scores; see
            `evaluate_results`.

    Returns:
        The scores; objects in the order of the sequences.

    Raises:
        DataError: Results or an object's category are missing, or no object can be scored.
        MaskError: A mask cannot be read as object ids, or has another size than its ground truth.
        ConfigError: There are no workers, or no video has one of the unseen categories.

    Source:
        METHOD section 6.

    Example:
        >>> evaluate_youtube_vos("no/such/folder", [], {}, unseen=[])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder: expected results as <sequence>/<frame>.png...
    """
    require_categories(meta, unseen)
    results = Path(results)
    files = [_files(sequence, results) for sequence in sequences]
    categories = {video.name: _categories(video, meta) for video in files}
    scored = {video.name: video.truths[video.first + 1 :] for video in files}
    processes = useful_processes(workers, [len(frames) for frames in scored.values()])
    require_results(results, scored)
    objects: list[Row] = []
    with closing(score_in_processes(score_late_objects, files, processes)) as rows_of:
        for _, video, rows in zip(progress(sequences), files, rows_of, strict=True):
            for row in rows:
                category = categories[video.name][int(row["object"])]
                objects.append({**row, "category": category, "seen": int(category not in unseen)})
            if len(rows) < len(video.appears):
                late = sorted(set(video.appears) - {int(row["object"]) for row in rows})
                log.warning("%s: object %s appears last of all and is not scored", video.name, late)
    if not objects:
        raise DataError(
            f"no object of the {len(sequences)} videos has a mask after its first: expected videos with every "
            "mask, such as those of train (the masks of a hidden set cannot be scored here)"
        )
    return YouTubeVOSScores(objects)


def _files(sequence: VideoSequence, results: Path) -> LateMaskFiles:
    # A frame that is annotated and not asked for, as where every object is out of view, has no result.
    asked = {*sequence.required, *sequence.introduces} if sequence.required else sequence.annotations.keys()
    scored = sorted(asked & sequence.annotations.keys())
    place = {index: n for n, index in enumerate(scored)}
    appears = {k: place[index] for index, ids in sequence.introduces.items() for k in ids}
    files = tuple(sequence.annotations[index] for index in scored)
    return LateMaskFiles(sequence.name, files, results / sequence.name, appears)


def _categories(video: LateMaskFiles, meta: Meta) -> dict[int, str]:
    """Category of each object of a video."""
    listed = {k: item.category for k, item in meta.get(video.name, {}).items()}
    categories = {k: category for k in video.appears if (category := listed.get(k)) is not None}
    missing = sorted(set(video.appears) - set(categories))
    if missing:
        raise DataError(
            f"meta.json has no category of the object {missing[0]} of {video.name}: expected one of every object, "
            "as in train; without it nobody knows whether it was seen"
        )
    return categories
