"""Check a folder of masks and zip it for the server of a benchmark. With a problem nothing is written.

Example:
    vos-umec submission RESULTS --dataset youtube-vos --root YTVOS --out results.zip
"""

from functools import partial
from pathlib import Path
from typing import Literal

from vos_umec.constants import IGNORE
from vos_umec.data.davis import davis_sequences
from vos_umec.data.sequences import VideoSequence
from vos_umec.data.youtube_vos import youtube_vos_meta, youtube_vos_sequences
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.masks import read_mask
from vos_umec.io.result_zip import RequiredVideo, find_problems, write_result_zip
from vos_umec.io.written import single_file
from vos_umec.progress import progress


def run(
    results: Path,
    *,
    dataset: Literal["youtube-vos", "davis17-test-dev"],
    root: Path,
    out: Path,
    split: str | None = None,
    overwrite: bool = False,
) -> None:
    """Check the results against what the server expects, and write its zip.

    Args:
        results: Folder of indexed PNGs, VIDEO/FRAME.png.
        dataset: The data set whose server the zip is for.
        root: Folder of the data set, with its Annotations.
        out: The zip to write. A file that vos-umec did not write is never replaced.
        split: Split of the results; without it, the server's, valid or test-dev.
        overwrite: Replace the file that OUT names, whoever wrote it.

    Raises:
        DataError: With one line for each problem of the results.
    """
    written = single_file(out, "--out", overwrite)
    problems: list[str] = []
    if dataset == "youtube-vos":
        split, folder = split or "valid", "Annotations"
        sequences = youtube_vos_sequences(root, split)
        absent = sorted(youtube_vos_meta(root, split).keys() - {sequence.name for sequence in sequences})
        problems += [
            f"video {name} of meta.json has no masks in {root / split}: unpack the data set again"
            for name in absent
        ]
    else:
        sequences, folder = davis_sequences(root, split or "test-dev"), ""
    videos = [_required(sequence) for sequence in progress(sequences, "reading the data set")]
    problems += find_problems(results, videos, partial(progress, what="checking"))
    if problems:
        raise DataError("\n  ".join([f"{out} is not written because of {len(problems)} problem(s):", *problems]))
    try:
        unnamed = out.with_name(f".{out.name}.partial")
        masks = write_result_zip(results, videos, unnamed, folder, partial(progress, what="packing"))
        written.adopt(unnamed, out)
    except OSError as error:
        raise ConfigError(
            f"cannot write {out}: {error.strerror}; name a file in a folder of yours, with space left"
        ) from error
    print(f"{masks} masks of {len(videos)} videos in {out}")


def _required(sequence: VideoSequence) -> RequiredVideo:
    """What the server expects of a sequence: masks with the size and ids of its own."""
    size, ids = (0, 0), set[int]()
    for path in sequence.annotations.values():
        mask = read_mask(path)
        size = (mask.shape[0], mask.shape[1])
        ids.update(mask[(mask != 0) & (mask != IGNORE)].tolist())
    return RequiredVideo(sequence.name, tuple(sequence.required_names()), size, frozenset(ids))
