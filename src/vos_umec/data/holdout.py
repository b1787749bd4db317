"""Which videos of YouTube-VOS train to hold out, for scores of seen and unseen categories without the server."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import sha256

from vos_umec.data.youtube_vos import Meta, require_categories, unseen_categories
from vos_umec.errors import ConfigError


@dataclass(frozen=True)
class HeldOut:
    """A set of videos in parts, and the categories that training does not see; all names sorted.

    Attributes:
        train: Videos to train on: every category but the unseen ones is among them, and of those none.
        held_out: Videos not to train on, all the others.
        scored: Those of ``held_out`` to score.
        unseen: The categories that no video of ``train`` shows.

    Example:
        >>> HeldOut(train=["b"], held_out=["a", "c"], scored=["a"], unseen=["dog"]).train
        ['b']
    """

    train: list[str]
    held_out: list[str]
    scored: list[str]
    unseen: list[str]


def draw_unseen(meta: Meta, scorable: Collection[str], count: int, seed: int = 0) -> list[str]:
    """Draw categories to keep from training.

    A category is passed over if leaving out its videos would take another one along, so that exactly ``count`` are
    unseen.

    Args:
        meta: Videos whose objects all have a category.
        scorable: Names of the videos with masks to score by; each category drawn is shown by one.
        count: Number of categories.
        seed: Another seed draws others; the same one the same from the same videos, everywhere.

    Returns:
        The categories, sorted.

    Raises:
        ConfigError: There are not so many.

    Example:
        >>> from vos_umec.data.youtube_vos import ObjectMeta
        >>> panda, dog = ({1: ObjectMeta(("00000",), name)} for name in ("giant_panda", "dog"))
        >>> draw_unseen({"a": panda, "b": dog}, scorable=["a"], count=1)
        ['giant_panda']
    """
    if count < 1:
        raise ConfigError(f"{count} unseen categories are asked for: expected at least 1")
    shown = _shown(meta)
    every = set().union(*shown.values())
    drawn: set[str] = set()
    for category in _drawn_order(set().union(*(shown[name] for name in scorable)), seed):
        if len(drawn) == min(count, len(every) - 1):  # one at least is left to train on
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
    """Part videos so that training sees nothing of some categories, and all of the others.

    No video that shows one of these categories is trained on. Half of the scored videos, rounded up, are of them,
    one of each category first: fewer if there are no more, more if there are not enough others. The rest shows seen
    categories only, each of which keeps a video to train on.

    Args:
        meta: Videos whose objects all have a category.
        scorable: Names of the videos with masks to score by.
        videos: Number of videos to score.
        unseen: The categories to keep from training; what only their videos show becomes unseen as well.
        seed: Of the draw, as in `draw_unseen`.

    Returns:
        The parts.

    Raises:
        ConfigError: There are not so many videos, no video is left to train on, or no video has such a category.

    Example:
        >>> from vos_umec.data.youtube_vos import ObjectMeta
        >>> panda, dog = ({1: ObjectMeta(("00000",), name)} for name in ("giant_panda", "dog"))
        >>> parts = hold_out({"a": panda, "b": panda, "c": dog}, ["a", "b"], videos=1, unseen=["giant_panda"])
        >>> parts.train, parts.held_out, len(parts.scored), parts.unseen
        (['c'], ['a', 'b'], 1, ['giant_panda'])
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
    order = _drawn_order(scorable, seed)
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
    """Categories by name of the video."""
    return {name: {item.category for item in objects.values() if item.category} for name, objects in meta.items()}


def _drawn_order(names: Iterable[str], seed: int) -> list[str]:
    """Names in an order that only they and the seed decide, on every machine."""
    return sorted(names, key=lambda name: sha256(f"{seed}/{name}".encode()).digest())


def _one_of_each_first(names: list[str], shown: dict[str, set[str]], categories: set[str]) -> list[str]:
    """The names, those first that show a category which none before them does."""
    missing, first = set(categories), []
    for name in names:
        if shown[name] & missing:
            first.append(name)
            missing -= shown[name]
    return first + [name for name in names if name not in first]
