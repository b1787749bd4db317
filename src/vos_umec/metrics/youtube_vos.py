"""Scores of YouTube-VOS: objects that may appear on any frame, means over seen and unseen categories."""

import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from vos_umec.data.sequences import VideoSequence
from vos_umec.data.youtube_vos import Meta, require_categories
from vos_umec.errors import DataError
from vos_umec.io.masks import read_mask
from vos_umec.metrics.jf import match_radius, pack_pair, pair_f, pair_jaccard
from vos_umec.metrics.score_files import (
    MaskFiles,
    read_result,
    require_results,
    score_in_processes,
    useful_processes,
)
from vos_umec.metrics.sequence import Row

log = logging.getLogger(__name__)

PARTS = ("J_seen", "J_unseen", "F_seen", "F_unseen")


@dataclass(frozen=True)
class YouTubeVOSScores:
    """J and F of each object, and their means over seen and over unseen categories.

    Args:
        objects: One row per object: `sequence`, `object`, `category`, `seen` (1 or 0), `J-Mean` and `F-Mean` as
            fractions.

    Example:
        >>> row = {"sequence": "a", "object": 1, "category": "dog", "seen": 1, "J-Mean": 0.5, "F-Mean": 0.75}
        >>> scores = YouTubeVOSScores([row, {**row, "seen": 0, "J-Mean": 0.25, "F-Mean": 0.5}])
        >>> scores.overall
        {'overall': 0.5, 'J_seen': 0.5, 'J_unseen': 0.25, 'F_seen': 0.75, 'F_unseen': 0.5}
    """

    objects: list[Row]

    @property
    def overall(self) -> dict[str, float]:
        """Means over the objects of seen and of unseen categories, and their mean; NaN without objects."""
        figures = {}
        for part in PARTS:
            rows = [row for row in self.objects if bool(row["seen"]) == part.endswith("_seen")]
            values = [float(row[f"{part[0]}-Mean"]) for row in rows]
            figures[part] = float(np.mean(values)) if values else math.nan
        return {"overall": float(np.mean(list(figures.values()))), **figures}

    def to_json(self, **about: Any) -> str:
        """The means, null in place of NaN, and the rows under `objects`, as fractions.

        Args:
            **about: What else to write under `about`, such as where the masks are.
        """
        means = {name: None if math.isnan(value) else value for name, value in self.overall.items()}
        content = {**means, **({"about": about} if about else {}), "objects": self.objects}
        return json.dumps(content, indent=2) + "\n"

    def table(self) -> Table:
        """Table in percent for a terminal or a notebook: a row per object, and the means below."""
        table = Table("video", "object", "category", "seen", caption="percent", caption_justify="left")
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
    """Score indexed PNGs in `results/<video>/<frame>.png` on videos with ground truth on every annotated frame.

    Each object is scored on every annotated frame after the one that introduces it. The rule of the evaluation
    server for an object's first frame is not published. Predicted ids that the video does not have count as
    background.

    Args:
        results: Folder with one folder per video.
        sequences: The videos, as `youtube_vos_sequences` lists them.
        meta: Their objects, as `youtube_vos_meta` reads them.
        unseen: The categories that count as unseen; all others are seen.
        progress: Wrapper of the loop over the videos, such as `rich.progress.track`.
        workers: Number of processes; see `evaluate`.

    Returns:
        The scores, in the order of the sequences.

    Raises:
        DataError: Results or the category of an object are missing, or no object can be scored.
        MaskError: A mask cannot be read as object ids, or has another size than its ground truth.
        ConfigError: `workers` is below 1, or no video has one of the unseen categories.

    Source:
        Xu et al., arXiv 1809.03327.
    """
    require_categories(meta, unseen)
    results = Path(results)
    files = [_files(sequence, results) for sequence in sequences]
    categories = {video.name: _categories(video, meta) for video in files}
    scored = {video.name: video.truths[video.first + 1 :] for video in files}
    processes = useful_processes(workers, [len(frames) for frames in scored.values()])
    require_results(results, scored)
    objects: list[Row] = []
    with closing(score_in_processes(_score_video, files, processes)) as rows_of:
        for _, video, rows in zip(progress(sequences), files, rows_of, strict=True):
            for row in rows:
                category = categories[video.name][int(row["object"])]
                objects.append({**row, "category": category, "seen": int(category not in unseen)})
            if len(rows) < len(video.appears):
                late = sorted(set(video.appears) - {int(row["object"]) for row in rows})
                log.warning("%s: object %s appears on the last annotated frame and is not scored", video.name, late)
    if not objects:
        raise DataError(
            f"no object of the {len(sequences)} videos has a mask after its first: expected videos with all masks, "
            "such as those of train (the masks of a hidden set cannot be scored here)"
        )
    return YouTubeVOSScores(objects)


@dataclass(frozen=True)
class _VideoFiles(MaskFiles):
    """One video to score; results are needed for the masks that come after its first object."""

    appears: Mapping[int, int]  # by object id, the position in `truths` of the mask that introduces it

    @property
    def first(self) -> int:
        """Position of the first ground truth with an object; past the last if there is none."""
        return min(self.appears.values(), default=len(self.truths))


def _files(sequence: VideoSequence, results: Path) -> _VideoFiles:
    # A frame may be annotated and not required, such as where every object is out of view. It has no result.
    required = {*sequence.required, *sequence.introduces} if sequence.required else sequence.annotations.keys()
    scored = sorted(required & sequence.annotations.keys())
    place = {index: n for n, index in enumerate(scored)}
    appears = {k: place[index] for index, ids in sequence.introduces.items() for k in ids}
    files = tuple(sequence.annotations[index] for index in scored)
    return _VideoFiles(sequence.name, files, results / sequence.name, appears)


def _categories(video: _VideoFiles, meta: Meta) -> dict[int, str]:
    """Category of each object of a video."""
    listed = {k: item.category for k, item in meta.get(video.name, {}).items()}
    categories = {k: category for k in video.appears if (category := listed.get(k)) is not None}
    missing = sorted(set(video.appears) - set(categories))
    if missing:
        raise DataError(
            f"meta.json has no category of the object {missing[0]} of {video.name}: expected one for every object, "
            "as in train, to know whether it is seen or unseen"
        )
    return categories


def _score_video(files: _VideoFiles) -> list[Row]:
    """Rows of one video, by object id; an object that appears on the last annotated frame has none."""
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
