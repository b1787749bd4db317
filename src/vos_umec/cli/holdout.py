"""``vos-umec holdout``: lists of the videos of YouTube-VOS train to hold out and to score. Starts without torch."""

import argparse
import shlex
from dataclasses import asdict, replace
from pathlib import Path

from vos_umec.data.holdout import HeldOut, draw_unseen, hold_out
from vos_umec.data.layouts import youtube_vos_frames
from vos_umec.data.youtube_meta import Meta, read_names, youtube_vos_meta
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.atomic import atomic_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Parser of ``vos-umec holdout``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["YTVOS", "--out", "held_out"]).videos
        100
    """
    parser.add_argument("root", type=Path, help="folder of YouTube-VOS, which holds train and its meta.json")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="new folder for the lists, one name a line: held_out.txt (not to train on), scored.txt (those of them "
        "to score), train.txt (the others), unseen.txt (categories that training does not see)",
    )
    parser.add_argument("--videos", type=int, default=100, metavar="N", help="videos to score (default: 100)")
    unseen = parser.add_mutually_exclusive_group()
    unseen.add_argument(
        "--unseen-categories", type=int, default=10, metavar="N", help="categories to draw as unseen (default: 10)"
    )
    unseen.add_argument(
        "--unseen", type=Path, metavar="FILE", help="a text file that names them instead, one a line"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Write the lists, and say what is in them and which commands take them.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        0, the exit status.

    Raises:
        DataError: There is no meta.json, or it and the videos do not belong together.
        ConfigError: More is asked for than there is, a category is none, or the folder cannot be written.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> run(parser.parse_args(["no/such/folder", "--out", "held_out"]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        vos_umec.errors.DataError: no meta.json in no/such/folder/train: ...
    """
    if args.out.exists():
        raise ConfigError(f"{args.out} is there, perhaps the lists of a training: name a new folder with --out")
    meta, scorable, unknown = _videos(args.root)
    if args.unseen is None:
        unseen = draw_unseen(meta, scorable, args.unseen_categories, args.seed)
    else:
        unseen = read_names(args.unseen)
    parts = hold_out(meta, scorable, args.videos, unseen, args.seed)
    parts = replace(parts, held_out=sorted([*parts.held_out, *unknown]))
    try:
        with atomic_folder(args.out) as folder:
            for name, lines in asdict(parts).items():
                (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write {args.out}: {error.strerror}; name a folder in a folder of yours"
        ) from error
    _tell(args, meta, parts, unknown)
    return 0


def _videos(root: Path) -> tuple[Meta, list[str], list[str]]:
    """What is known to be on each video, the videos with masks to score by, and those nobody knows enough of."""
    listed = youtube_vos_meta(root)
    if not listed:
        raise DataError(f"no meta.json in {root / 'train'}: expected the folder that holds train, as downloaded")
    there = [path.name for path in youtube_vos_frames(root).iterdir() if path.is_dir() and path.name[0] != "."]
    known = {
        name: listed[name]
        for name in sorted(there)
        if name in listed and all(item.category for item in listed[name].values())
    }
    if not known:
        raise DataError(
            f"meta.json has no categories of the {len(there)} videos of {root / 'train'}: expected that of train"
        )
    masks = root / "train" / "Annotations"
    # The first mask is given; one more is needed for a score.
    scorable = [name for name in known if known[name] and len(list((masks / name).glob("*.png"))) > 1]
    if not scorable:
        raise DataError(f"no video in {masks} has two masks: expected those of train, one folder of PNGs a video")
    return known, scorable, sorted(set(there) - set(known))


def _tell(args: argparse.Namespace, meta: Meta, parts: HeldOut, unknown: list[str]) -> None:
    shown = [{item.category for item in meta[name].values()} for name in parts.scored]
    showing = sum(not categories.isdisjoint(parts.unseen) for categories in shown)
    scored = len(set(parts.unseen).intersection(set().union(*shown)))
    print(f"{len(parts.train)} videos to train on, {len(parts.held_out)} held out")
    print(f"{len(parts.scored)} of these to score, {showing} of them with objects of {scored} unseen categories")
    print(f"unseen: {', '.join(parts.unseen)}")
    if unknown:
        print(f"{len(unknown)} held out because meta.json does not say what they show, such as {unknown[0]}")
    root, held_out, scored_list, unseen = (
        shlex.quote(str(path))
        for path in (args.root, *(args.out / f"{name}.txt" for name in ("held_out", "scored", "unseen")))
    )
    print(
        "to train, to segment and to score:\n"
        f"  vos-umec fit --config configs/ytvos_resnet18.yaml --data.root {root} --data.held_out {held_out}\n"
        f"  vos-umec predict --config configs/ytvos_predict.yaml --data.root {root} --data.split train "
        f"--data.videos {scored_list} --ckpt_path CKPT\n"
        f"  vos-umec evaluate RESULTS --dataset youtube-vos --root {root} --videos {scored_list} --unseen {unseen}"
    )
