"""Score a folder of masks by the rules of DAVIS 2017 or YouTube-VOS.

Example:
    vos-umec evaluate RESULTS --root DAVIS --json scores.json
    vos-umec evaluate RESULTS --dataset youtube-vos --root YTVOS --videos scored.txt --unseen unseen.txt

The server keeps the masks of YouTube-VOS valid, so that data set is scored on videos of train that training held
out: scored.txt names them and unseen.txt the categories that training did not see, one a line.
"""

from functools import partial
from os.path import relpath
from pathlib import Path
from typing import Literal

from vos_umec.data.sequences import read_names
from vos_umec.errors import ConfigError
from vos_umec.io.container import available_cores
from vos_umec.io.written import single_file
from vos_umec.metrics.results import DEFAULT_SPLITS, evaluate, print_table
from vos_umec.progress import progress


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
    overwrite: bool = False,
) -> None:
    """Print the scores, and write them as JSON where asked.

    Args:
        results: Folder of indexed PNGs, SEQUENCE/FRAME.png.
        root: Folder of the data set as downloaded: JPEGImages, which list the frames, Annotations, ImageSets.
        dataset: The rules to score by.
        split: Split to score; without it, val of davis17 and train of youtube-vos.
        workers: Processes, which do not change the scores; without it, one per core.
        videos: Of youtube-vos: a file that names the videos to score; without it, all.
        unseen: Of youtube-vos: a file that names the categories that count as unseen; without it, those that only
            the videos to score show.
        json: Also write the figures to this file, as fractions. A file that vos-umec did not write is never
            replaced.
        overwrite: Replace the file that JSON names, whoever wrote it.
    """
    written = None if json is None else single_file(json, "--json", overwrite)
    scores = evaluate(
        results,
        root,
        dataset,
        split,
        videos=None if videos is None else read_names(videos),
        unseen=None if unseen is None else read_names(unseen),
        workers=available_cores() if workers is None else workers,
        progress=partial(progress, what="scoring"),
    )
    print_table(scores.table())
    if written is not None and json is not None:
        try:
            # For `vos-umec report`, from the file's folder on: it may be shared, with no folder of this machine.
            places = {name: relpath(place, json.parent) for name, place in (("results", results), ("root", root))}
            rules = {"dataset": dataset, "split": split or DEFAULT_SPLITS[dataset]}
            written.write(json, scores.to_json(**places, **rules).encode())
        except OSError as error:
            raise ConfigError(f"cannot write {json}: {error.strerror}; name a file in a folder of yours") from error
