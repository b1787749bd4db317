"""Scores of a folder of results against the ground truth of its data set. It imports no torch."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vos_umec.data.davis import davis_sequences
from vos_umec.data.sequences import VideoSequence
from vos_umec.data.youtube_vos import unseen_categories, youtube_vos_meta, youtube_vos_sequences
from vos_umec.errors import ConfigError, DataError
from vos_umec.metrics.score_files import (
    MaskFiles,
    require_results,
    score_in_processes,
    score_sequence,
    useful_processes,
)
from vos_umec.metrics.sequence import FIGURES, Curve, Row, overall
from vos_umec.metrics.youtube_vos import YouTubeVOSScores, evaluate_youtube_vos

Progress = Callable[[Sequence[VideoSequence]], Iterable[VideoSequence]]

DEFAULT_SPLITS = {"davis17": "val", "youtube-vos": "train"}


@dataclass(frozen=True)
class Scores:
    """DAVIS scores of a data set and of each of its objects.

    Args:
        objects: One row per object: `sequence`, `object` and the seven `FIGURES` as fractions.
        curves: J and F of each object in each scored frame, where they are known.

    Example:
        >>> scores = Scores([{"sequence": "dog", "object": 1, **dict.fromkeys(FIGURES, 0.5)}])
        >>> scores.overall["J&F"], scores.table().row_count
        (0.5, 2)
    """

    objects: list[Row]
    curves: list[Curve] = field(default_factory=list)

    @property
    def overall(self) -> dict[str, float]:
        """Mean of each figure over all objects."""
        return overall(self.objects)

    def to_json(self, **about: Any) -> str:
        """The means over all objects, the rows under `objects`, and the `curves`, as fractions at full precision.

        Args:
            **about: What else to write under `about`, such as where the masks are.
        """
        content = {**self.overall, **({"about": about} if about else {}), "objects": self.objects}
        text = json.dumps(content, indent=2)
        lines = ",\n".join(f"    {json.dumps(curve)}" for curve in self.curves)  # a line for each object
        return (f'{text[:-2]},\n  "curves": [\n{lines}\n  ]\n}}' if lines else text) + "\n"

    def table(self) -> Table:
        """Table in percent for a terminal or a notebook: a row per object, and the means below."""
        table = Table("sequence", "object", caption="percent; means over objects", caption_justify="left")
        for name in FIGURES:
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.objects:
            table.add_row(str(row["sequence"]), str(row["object"]), *_percent(row))
        table.add_section()
        table.add_row("all", f"{len(self.objects)} objects", *_percent(self.overall), style="bold")
        return table


def evaluate(
    results: str | Path,
    root: str | Path,
    dataset: str = "davis17",
    split: str | None = None,
    *,
    videos: Collection[str] | None = None,
    unseen: Collection[str] | None = None,
    workers: int = 1,
    progress: Progress = iter,
) -> Scores | YouTubeVOSScores:
    """Score a folder of results on DAVIS 2017 or YouTube-VOS.

    Args:
        results: Folder of indexed PNGs, `<sequence>/<frame>.png`.
        root: Folder of the data set, as downloaded.
        dataset: The data set and its rules: "davis17" or "youtube-vos".
        split: Split of the data set; None for "val" of DAVIS and "train" of YouTube-VOS. The masks of the other
            splits of YouTube-VOS are hidden.
        videos: YouTube-VOS only: names of the videos to score, which training left out; None for all of the split.
        unseen: YouTube-VOS only: categories that count as unseen; None for those that only `videos` show.
        workers: Number of processes, this one included, >= 1; the scores do not depend on it. No more are used than
            there are sequences, and only this one if starting others would take longer than scoring. A script with
            more than one needs the guard `if __name__ == "__main__"`.
        progress: Wrapper of the loop over the sequences, such as `rich.progress.track`.

    Returns:
        The scores: `overall` (means as fractions), `objects` (one row per object), `table()` and `to_json()`.

    Raises:
        DataError: Ground truth or results are missing.
        MaskError: A mask cannot be read as object ids, or has another size than its ground truth.
        ConfigError: A name or a number is out of range, or it is unknown which categories are unseen.
    """
    folders: dict[str, Any] = {"results": results, "root": root}  # whatever their types say
    for name, given in folders.items():
        if not isinstance(given, str | Path):
            raise ConfigError(f"{name} is the path of a folder; found {type(given).__name__}: give a str or a Path")
    if dataset not in DEFAULT_SPLITS:
        raise ConfigError(f"dataset is {dataset!r}: expected one of {', '.join(DEFAULT_SPLITS)}")
    split = split or DEFAULT_SPLITS[dataset]
    if dataset == "davis17":
        if videos is not None or unseen is not None:
            raise ConfigError("videos or unseen is set for davis17: choose dataset youtube-vos, or leave them out")
        return evaluate_results(results, davis_sequences(root, split), progress, workers)
    sequences = youtube_vos_sequences(root, split, videos=videos)
    meta = youtube_vos_meta(root, split)
    if not meta:
        raise DataError(f"no meta.json in {Path(root) / split}: expected it with the category of each object")
    if unseen is None:
        if set(videos or meta) >= set(meta):
            raise ConfigError(
                f"all videos of {split} are scored, so it is unknown which categories training has not seen: "
                "name the videos that training left out (videos), or the unseen categories (unseen)"
            )
        unseen = unseen_categories(meta, videos or ())
    return evaluate_youtube_vos(results, sequences, meta, unseen, progress, workers)


def evaluate_results(
    results: str | Path, sequences: Sequence[VideoSequence], progress: Progress = iter, workers: int = 1
) -> Scores:
    """Score indexed PNGs in `results/<sequence>/<frame>.png` by the DAVIS rules, on any annotated sequences.

    A result is needed for every frame with a ground truth except the first and the last, which are not scored. All
    sequences are checked for missing files before the first one is read. Arguments and errors are those of
    `evaluate`. The scores are in the order of the sequences.

    Source:
        The semi-supervised task of DAVIS 2017, Pont-Tuset et al., arXiv 1704.00675.
    """
    results = Path(results)
    files = [
        MaskFiles(
            sequence.name, tuple(mask for _, mask in sorted(sequence.annotations.items())), results / sequence.name
        )
        for sequence in sequences
    ]
    processes = useful_processes(workers, [len(sequence.truths) for sequence in files])
    require_results(results, {sequence.name: sequence.truths[1:-1] for sequence in files})
    scores = Scores([])
    with closing(score_in_processes(score_sequence, files, processes)) as scorers:
        for _, scorer, sequence in zip(progress(sequences), scorers, files, strict=True):
            scores.objects.extend(scorer.rows())
            scores.curves.extend(scorer.curves([path.stem for path in sequence.truths]))
    return scores


def print_table(table: Table) -> None:
    """Print a table at its full width, also in a narrow terminal and in a file, where rich assumes 80 columns."""
    console = Console()
    unbounded = console.options.update(max_width=10_000)  # a measure is cut to the options' width
    console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)


def _percent(figures: dict[str, float] | Row) -> list[str]:
    return [f"{100 * float(figures[name]):z.1f}" for name in FIGURES]
