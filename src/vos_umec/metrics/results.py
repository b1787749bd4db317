"""Scores of a folder of results against the ground truth of its sequences. Imports no torch."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vos_umec.data.sequences import VideoSequence
from vos_umec.errors import ConfigError, DataError
from vos_umec.metrics.score_files import MaskFiles, score_sequences
from vos_umec.metrics.sequence import FIGURES, Row, overall

# Another process takes some 0.2 seconds to start, in which this one scores about as many frames.
_WORTH_A_PROCESS = 600


@dataclass(frozen=True)
class Scores:
    """Figures of a data set and of each of its objects.

    Args:
        objects: One row per object: ``sequence``, ``object`` and the seven figures as fractions.

    Example:
        >>> scores = Scores([{"sequence": "dog", "object": 1, **dict.fromkeys(FIGURES, 0.5)}])
        >>> scores.overall["J&F"], scores.table().row_count
        (0.5, 2)
        >>> sorted(json.loads(scores.to_json()))
        ['F-Decay', 'F-Mean', 'F-Recall', 'J&F', 'J-Decay', 'J-Mean', 'J-Recall', 'objects']
    """

    objects: list[Row]

    @property
    def overall(self) -> dict[str, float]:
        """Mean of each figure over all objects."""
        return overall(self.objects)

    def to_json(self) -> str:
        """The figures over all objects, and the rows under ``objects``, as fractions at full precision."""
        return json.dumps({**self.overall, "objects": self.objects}, indent=2) + "\n"

    def table(self) -> Table:
        """Table for a terminal or a notebook, in per cent: a row per object, and the means below."""
        table = Table("sequence", "object", caption="per cent; means over objects", caption_justify="left")
        for name in FIGURES:
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.objects:
            table.add_row(str(row["sequence"]), str(row["object"]), *_per_cent(row))
        table.add_section()
        table.add_row("all", str(len(self.objects)), *_per_cent(self.overall), style="bold")
        return table


def evaluate_results(
    results: str | Path,
    sequences: Sequence[VideoSequence],
    progress: Callable[[Sequence[VideoSequence]], Iterable[VideoSequence]] = iter,
    workers: int = 1,
) -> Scores:
    """Score indexed PNGs in ``results/<sequence>/<frame>.png`` by the DAVIS rules.

    A result is needed for every frame that has a ground truth, save the first and the last, which are not
    scored. All sequences are checked for missing files before the first is read.

    Args:
        results: Folder with one folder per sequence.
        sequences: The sequences with their ground truth.
        progress: Wrapper of the loop over the sequences, such as ``tqdm`` or ``rich.progress.track``.
        workers: Processes, this one included; the scores do not depend on it. No more are used than there are
            sequences, and one alone where starting others would take longer than scoring. A script that asks
            for more than one has to guard its start with ``if __name__ == "__main__"``.

    Returns:
        The scores; objects in the order of the sequences.

    Raises:
        DataError: Results are missing, or a sequence cannot be scored.
        MaskError: A mask cannot be read as object ids, or has another size than its ground truth.
        ConfigError: There are no workers.

    Source:
        METHOD section 6, the semi-supervised task of DAVIS 2017.

    Example:
        >>> dog = VideoSequence("dog", Path("frames/dog"), annotations={}, prompts={})
        >>> evaluate_results("no/such/folder", [dog])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder: expected results as <sequence>/<frame>.png...
    """
    results = Path(results)
    files = [MaskFiles(sequence.name, truths(sequence), results / sequence.name) for sequence in sequences]
    processes = useful_processes(workers, [len(sequence.truths) for sequence in files])
    require_results(results, {sequence.name: sequence.truths[1:-1] for sequence in files})
    objects: list[Row] = []
    with closing(score_sequences(files, processes)) as scorers:
        for _, scorer in zip(progress(sequences), scorers, strict=True):
            objects += scorer.rows()
    return Scores(objects)


def print_table(table: Table) -> None:
    """Print a table whole, also where the terminal is narrow or the output is a file (80 columns to rich).

    Args:
        table: Such as `table` gives.

    Example:
        >>> table = Table("object", box=None)
        >>> table.add_row("x" * 100)
        >>> print_table(table)  # doctest: +NORMALIZE_WHITESPACE
        object
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    """
    console = Console()
    unbounded = console.options.update(max_width=10_000)  # a measure is cut to the options' width
    console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)


def truths(sequence: VideoSequence) -> tuple[Path, ...]:
    """Ground-truth files of a sequence.

    Args:
        sequence: The sequence.

    Returns:
        Its annotations in the order of the frames.

    Example:
        >>> masks = {5: Path("b.png"), 0: Path("a.png")}
        >>> [path.name for path in truths(VideoSequence("dog", Path("dog"), masks, prompts={}))]
        ['a.png', 'b.png']
    """
    return tuple(sequence.annotations[i] for i in sorted(sequence.annotations))


def useful_processes(workers: int, frames: Sequence[int]) -> int:
    """Number of processes that are worth starting.

    Args:
        workers: As many as the user allows.
        frames: Number of frames of each sequence, which one process scores.

    Returns:
        At least 1, which is this process alone.

    Raises:
        ConfigError: There are no workers.

    Example:
        >>> useful_processes(8, [10, 10]), useful_processes(8, [1000, 1000])
        (1, 2)
    """
    if workers < 1:
        raise ConfigError(f"workers is {workers}: expected a number of processes, at least 1")
    return 1 if sum(frames) < _WORTH_A_PROCESS else max(1, min(workers, len(frames)))


def require_results(results: Path, scored: Mapping[str, Sequence[Path]]) -> None:
    """Refuse a folder of results that lacks some, before the first is read.

    Args:
        results: Folder with one folder per sequence.
        scored: For each sequence the ground truths that a result of the same file name is held against.

    Raises:
        DataError: Results are missing.

    Example:
        >>> require_results(Path("no/such/folder"), {})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder: expected results as <sequence>/<frame>.png...
    """
    if not results.is_dir():
        raise DataError(f"no folder {results}: expected results as <sequence>/<frame>.png; check the path")
    missing = [name for name in scored if not (results / name).is_dir()]
    if missing:
        raise DataError(
            f"{results} has no results of {len(missing)} of {len(scored)} sequences ({_few(missing)}): "
            "expected a folder of each; segment them, or choose the split that was segmented"
        )
    for name, targets in scored.items():
        there = {path.name for path in (results / name).iterdir()}
        missing = [path.name for path in targets if path.name not in there]
        if missing:
            raise DataError(
                f"{results / name} lacks {len(missing)} of the {len(targets)} scored frames ({_few(missing)}): "
                "expected one indexed PNG for each, named as its frame; segment the whole sequence again"
            )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _per_cent(figures: dict[str, float] | Row) -> list[str]:
    return [f"{100 * float(figures[name]):z.1f}" for name in FIGURES]
