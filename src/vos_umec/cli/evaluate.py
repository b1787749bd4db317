"""Score a folder of masks by the rules of DAVIS 2017 or YouTube-VOS.

Example:
    vos-umec evaluate RESULTS --root DAVIS --json scores.json
    vos-umec evaluate RESULTS --dataset youtube-vos --root YTVOS --videos scored.txt --unseen unseen.txt

The server keeps the masks of YouTube-VOS valid, so that data set is scored on videos of train that training held
out: scored.txt names them and unseen.txt the categories that training did not see, one a line.
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import track

from vos_umec.data.davis import davis_sequences
from vos_umec.data.sequences import read_names
from vos_umec.data.youtube_vos import unseen_categories, youtube_vos_meta, youtube_vos_sequences
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.atomic import atomic_path
from vos_umec.metrics.results import Scores, evaluate_results, print_table
from vos_umec.metrics.score_files import available_cores
from vos_umec.metrics.youtube_vos import YouTubeVOSScores, evaluate_youtube_vos


def run(
    results: Path,
    *,
    root: Path,
    dataset: Literal["davis17", "youtube-vos"] = "davis17",
    split: str | None = None,
    workers: int | None = None,
    videos: Path | None = None,
    unseen: Path | None = None,
    json: Path | None = None,
) -> None:
    """Print the scores, and write them as JSON where asked.

    Args:
        results: Folder of indexed PNGs, SEQUENCE/FRAME.png.
        root: Folder of the data set, with its Annotations.
        dataset: The rules to score by.
        split: Split to score; without it, val of davis17 and train of youtube-vos.
        workers: Processes, which do not change the scores; without it, one per core.
        videos: Of youtube-vos: a file that names the videos to score; without it, all.
        unseen: Of youtube-vos: a file that names the categories that count as unseen; without it, those that only
            the videos to score show.
        json: Also write the figures to this file, as fractions.

    Raises:
        DataError: If true masks or results are missing.
        MaskError: If a mask cannot be read as object ids, or has a wrong size.
        ConfigError: If the JSON file cannot be written, `workers` is below 1, or nothing says what was held out.

    Example:
        >>> run(Path("results"), root=Path("no/such/folder"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder/JPEGImages: ...
    """
    console = Console(stderr=True)
    progress = partial(
        track, description="scoring", console=console, transient=True, disable=not console.is_terminal
    )
    workers = available_cores() if workers is None else workers
    scores: Scores | YouTubeVOSScores
    if dataset == "youtube-vos":
        scores = _youtube_vos(results, root, split or "train", videos, unseen, progress, workers)
    elif videos or unseen:
        raise ConfigError(
            "--videos and --unseen are for youtube-vos: give --dataset youtube-vos, or leave them out"
        )
    else:
        scores = evaluate_results(results, davis_sequences(root, split or "val"), progress, workers)
    print_table(scores.table())
    if json is not None:
        try:
            with atomic_path(json) as temporary:
                temporary.write_text(scores.to_json(), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {json}: {error.strerror}; name a file in a folder of yours") from error


def _youtube_vos(
    results: Path, root: Path, split: str, videos: Path | None, unseen: Path | None, progress: Any, workers: int
) -> YouTubeVOSScores:
    names = None if videos is None else read_names(videos)
    sequences = youtube_vos_sequences(root, split, videos=names)
    meta = youtube_vos_meta(root, split)
    if not meta:
        raise DataError(f"no meta.json in {root / split}; it names the category of each object: unpack it again")
    if unseen is None and set(names or meta) >= set(meta):
        raise ConfigError(
            f"all videos of {split} are to be scored, so nothing says which categories training saw: give "
            "--videos, the videos that were held out, or --unseen, the unseen categories"
        )
    categories = unseen_categories(meta, names or ()) if unseen is None else read_names(unseen)
    return evaluate_youtube_vos(results, sequences, meta, categories, progress, workers)
