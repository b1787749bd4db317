"""``vos-umec submission``: the zip of results that an evaluation server takes. Starts without torch."""

import argparse
import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from vos_umec.data.davis import davis_sequences
from vos_umec.data.sequences import VideoSequence
from vos_umec.data.youtube_vos import youtube_vos_meta, youtube_vos_sequences
from vos_umec.errors import ConfigError
from vos_umec.io.masks import read_mask
from vos_umec.io.result_zip import RequiredVideo, find_problems, write_result_zip

# Each server's split, and the folder in which it wants the videos.
_SERVERS = {"youtube-vos": ("valid", "Annotations"), "davis17-test-dev": ("test-dev", "")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of ``vos-umec submission``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> words = ["results", "--dataset", "youtube-vos", "--root", "YTVOS", "--out", "results.zip"]
        >>> parser.parse_args(words).dataset
        'youtube-vos'
    """
    parser.add_argument("results", type=Path, help="folder of indexed PNGs, <video>/<frame>.png")
    parser.add_argument("--dataset", choices=sorted(_SERVERS), required=True, help="whose server the zip is for")
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set, with its Annotations")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the zip to write")
    parser.add_argument("--split", help="another split than the server's (default: valid, test-dev)")


def run(args: argparse.Namespace) -> int:
    """Check a folder of results against what the server asks for, and write its zip.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        The exit status: 0, or 1 where the results are not what the server takes; every problem is then told in a
        line of its own and nothing is written.

    Raises:
        DataError: The data set or the results are missing.
        MaskError: A mask of the data set cannot be read as object ids.
        ConfigError: The zip cannot be written.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> words = ["results", "--dataset", "davis17-test-dev", "--root", "no/such/folder", "--out", "results.zip"]
        >>> run(parser.parse_args(words))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no folder no/such/folder/JPEGImages: ...
    """
    default, folder = _SERVERS[args.dataset]
    split = args.split or default
    if args.dataset == "youtube-vos":
        sequences = youtube_vos_sequences(args.root, split)
        absent = sorted(set(youtube_vos_meta(args.root, split)) - {sequence.name for sequence in sequences})
    else:
        sequences, absent = davis_sequences(args.root, split), []
    videos = [_required(sequence) for sequence in sequences]
    console = Console(stderr=True)
    progress = partial(track, console=console, transient=True, disable=not console.is_terminal)
    problems = [
        f"meta.json lists the video {name}, which has no masks in {args.root / split}: unpack the data set again"
        for name in absent
    ]
    problems += find_problems(args.results, videos, partial(progress, description="checking"))
    if problems:
        for problem in problems:
            print(f"vos-umec: error: {problem}", file=sys.stderr)
        print(f"vos-umec: {args.out} is not written: {len(problems)} problem(s), see above", file=sys.stderr)
        return 1
    try:
        masks = write_result_zip(args.results, videos, args.out, folder, partial(progress, description="packing"))
    except OSError as error:
        raise ConfigError(
            f"cannot write {args.out}: {error.strerror}; name a file in a folder of yours, with room"
        ) from error
    print(f"{masks} masks of {len(videos)} videos in {args.out}")
    return 0


def _required(sequence: VideoSequence) -> RequiredVideo:
    """What the server asks of a sequence: size and ids are those of its masks."""
    size, ids = (0, 0), set[int]()
    for path in sequence.annotations.values():
        mask = read_mask(path)
        size = (mask.shape[0], mask.shape[1])
        ids.update(mask[(mask != 0) & (mask != 255)].tolist())
    return RequiredVideo(sequence.name, tuple(sequence.required_names()), size, frozenset(ids))
