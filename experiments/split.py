"""Hold out videos of YouTube-VOS train, for a score of seen and unseen categories without its server. No torch.

python experiments/split.py YTVOS --out held_out --videos 100 --unseen-categories 10

The lists that it writes are what `vos-umec fit`, `predict` and `evaluate` take; it prints how.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from vos_umec.data.sequences import read_names
from vos_umec.data.youtube_vos import (
    Meta,
    require_categories,
    unseen_categories,
    youtube_vos_frames,
    youtube_vos_meta,
)
from vos_umec.errors import ConfigError, DataError, VosUmecError
from vos_umec.io.atomic import atomic_folder


@dataclass(frozen=True)
class HeldOut:
    """The parts of a set of videos; all names are sorted.

    Attributes:
        train: Videos to train on. They show every category but the unseen ones.
        held_out: Videos not to train on, which is all others.
        scored: Those of `held_out` to score.
        unseen: The categories that no video of `train` shows.
    """

    train: list[str]
    held_out: list[str]
    scored: list[str]
    unseen: list[str]


def draw_unseen(meta: Meta, scorable: Collection[str], count: int, seed: int = 0) -> list[str]:
    """Draw categories to keep from training.

    A category is passed over if another one would leave training with its videos, so exactly `count` are unseen.

    Args:
        meta: Videos whose objects all have a category.
        scorable: Names of the videos with masks to score by; each drawn category is on one of them.
        count: Number of categories.
        seed: Seed of the draw, which gives the same categories on every machine.

    Returns:
        The categories, sorted.

    Raises:
        ConfigError: There are not so many.
    """
    if count < 1:
        raise ConfigError(f"{count} unseen categories are asked for: expected at least 1")
    shown = _shown(meta)
    every = set().union(*shown.values())
    drawn: set[str] = set()
    for category in _shuffled(set().union(*(shown[name] for name in scorable)), seed):
        if len(drawn) == min(count, len(every) - 1):  # at least one is left to train on
            break
        others = set().union(*(on for on in shown.values() if not on & {*drawn, category}))
        if others == every - {*drawn, category}:
            drawn.add(category)
    if len(drawn) < count:
        raise ConfigError(
            f"{count} unseen categories are asked for, but of the {len(every)} only {len(drawn)} can leave "
            "training without another one and have a video with masks: ask for fewer, or name them"
        )
    return sorted(drawn)


def hold_out(meta: Meta, scorable: Collection[str], videos: int, unseen: Collection[str], seed: int = 0) -> HeldOut:
    """Split videos so that training sees nothing of some categories and all of the others.

    Half of the scored videos, rounded up, show an unseen category, one of each category first; there are fewer of
    them if no more exist, and more if the others are too few. The rest shows seen categories only, each of which
    keeps a video to train on.

    Args:
        meta: Videos whose objects all have a category.
        scorable: Names of the videos with masks to score by.
        videos: Number of videos to score.
        unseen: Categories to keep from training; what only their videos show becomes unseen as well.
        seed: Seed of the draw, as in `draw_unseen`.

    Raises:
        ConfigError: There are not so many videos, none is left to train on, or none has such a category.
    """
    require_categories(meta, unseen)
    if not 1 <= videos <= len(scorable):
        raise ConfigError(
            f"{videos} videos to score are asked for: expected 1 to {len(scorable)}, those with masks"
        )
    shown = _shown(meta)
    held_out = {name for name, categories in shown.items() if categories & set(unseen)}
    if len(held_out) == len(meta):
        raise ConfigError(f"each of the {len(meta)} videos shows an unseen category: leave some to train on")
    without = unseen_categories(meta, held_out)
    order = _shuffled(scorable, seed)
    of_unseen = _one_of_each_first([name for name in order if name in held_out], shown, without)
    left = Counter(c for name, categories in shown.items() if name not in held_out for c in categories)
    of_seen: list[str] = []
    for name in order:
        if len(of_seen) == max(videos // 2, videos - len(of_unseen)):
            break
        if name not in held_out and all(left[category] > 1 for category in shown[name]):
            of_seen.append(name)
            left.subtract(shown[name])
    if len(of_seen) + len(of_unseen) < videos:
        raise ConfigError(
            f"{videos} videos to score are asked for, but only {len(of_seen) + len(of_unseen)} can be held out "
            "while every seen category keeps a video to train on: ask for fewer"
        )
    held_out.update(of_seen)
    scored = of_seen + of_unseen[: videos - len(of_seen)]
    return HeldOut(sorted(set(meta) - held_out), sorted(held_out), sorted(scored), sorted(without))


def _shown(meta: Meta) -> dict[str, set[str]]:
    """Categories by video."""
    return {name: {item.category for item in objects.values() if item.category} for name, objects in meta.items()}


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Names in an order that depends on them and the seed alone, on every machine."""
    return sorted(names, key=lambda name: sha256(f"{seed}/{name}".encode()).digest())


def _one_of_each_first(names: list[str], shown: dict[str, set[str]], categories: set[str]) -> list[str]:
    """The names, starting with those that show a category which none before them does."""
    missing, first = set(categories), []
    for name in names:
        if shown[name] & missing:
            first.append(name)
            missing -= shown[name]
    return first + [name for name in names if name not in first]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the lists, and say what they hold and which commands take them.

    Raises:
        DataError: There is no meta.json, or it does not fit the videos.
        ConfigError: More is asked for than there is, a category is unknown, or the folder exists.
    """
    args = _parser().parse_args(argv)
    if args.out.exists():
        raise ConfigError(f"{args.out} exists, perhaps with the lists of a training: name a new folder with --out")
    meta, scorable, unknown = _videos(args.root)
    if args.unseen is None:
        unseen = draw_unseen(meta, scorable, args.unseen_categories, args.seed)
    else:
        unseen = read_names(args.unseen)
    parts = hold_out(meta, scorable, args.videos, unseen, args.seed)
    parts = replace(parts, held_out=sorted([*parts.held_out, *unknown]))
    with atomic_folder(args.out) as folder:
        for name, lines in asdict(parts).items():
            (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    _report(args.root, args.out, meta, parts, unknown)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Hold out videos of YouTube-VOS train.")
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
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    return parser


def _videos(root: Path) -> tuple[Meta, list[str], list[str]]:
    """The objects of each video with known categories, the videos with masks to score by, and all other videos."""
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
    # The first mask is the reference; a score needs one more.
    scorable = [name for name in known if known[name] and len(list((masks / name).glob("*.png"))) > 1]
    if not scorable:
        raise DataError(f"no video in {masks} has two masks: expected those of train, one folder of PNGs a video")
    return known, scorable, sorted(set(there) - set(known))


def _report(root: Path, out: Path, meta: Meta, parts: HeldOut, unknown: list[str]) -> None:
    shown = [{item.category for item in meta[name].values()} for name in parts.scored]
    showing = sum(not categories.isdisjoint(parts.unseen) for categories in shown)
    scored = len(set(parts.unseen).intersection(set().union(*shown)))
    print(f"{len(parts.train)} videos to train on, {len(parts.held_out)} held out")
    print(f"{len(parts.scored)} of these to score, {showing} of them with objects of {scored} unseen categories")
    print(f"unseen: {', '.join(parts.unseen)}")
    if unknown:
        print(f"{len(unknown)} held out because meta.json does not say what they show, such as {unknown[0]}")
    names = (out / f"{name}.txt" for name in ("held_out", "scored", "unseen"))
    folder, held_out, scored_list, unseen = (shlex.quote(str(path)) for path in (root, *names))
    print(
        "to train, to segment and to score:\n"
        f"  vos-umec fit --config configs/ytvos_resnet18.yaml --data.root {folder} --data.held_out {held_out}\n"
        f"  vos-umec predict --config configs/ytvos_predict.yaml --data.root {folder} --data.split train "
        f"--data.videos {scored_list} --ckpt_path CKPT\n"
        f"  vos-umec evaluate RESULTS --dataset youtube-vos --root {folder} --videos {scored_list} "
        f"--unseen {unseen}"
    )


if __name__ == "__main__":
    try:
        main()
    except (VosUmecError, OSError) as error:
        sys.exit(f"error: {error}")
