"""The parts of a held-out split, held against what they promise, on any few videos."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vos_umec.data.holdout import draw_unseen, hold_out
from vos_umec.data.youtube_vos import Meta, ObjectMeta
from vos_umec.errors import ConfigError


def meta(**videos: str) -> dict[str, dict[int, ObjectMeta]]:
    """Videos by name with the categories of their objects, in words."""
    return {
        name: {k: ObjectMeta(("00000",), category) for k, category in enumerate(words.split(), start=1)}
        for name, words in videos.items()
    }


def shown(videos: Meta, names: list[str]) -> set[str | None]:
    return {item.category for name in names for item in videos[name].values()}


some_videos = st.lists(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=2), min_size=4, max_size=14).map(
    lambda sets: meta(**{f"v{n}": " ".join(sorted(words)) for n, words in enumerate(sets)})
)
some_places = st.sets(st.integers(0, 13), max_size=4)


@given(videos=some_videos, maskless=some_places, count=st.integers(1, 3), named=st.booleans(), seed=st.integers())
def test_training_sees_nothing_of_the_unseen_and_all_of_the_seen(videos, maskless, count, named, seed):
    able = [name for n, name in enumerate(videos) if n not in maskless]
    try:
        unseen = ["a"] if named else draw_unseen(videos, able, 1 + seed % 3, seed)
        parts = hold_out(videos, able, count, unseen, seed)
    except ConfigError:
        return  # the tests below say when
    assert sorted([*parts.train, *parts.held_out]) == sorted(videos)  # disjoint, and all of them
    assert set(parts.scored) <= set(parts.held_out) & set(able)
    assert len(parts.scored) == len(set(parts.scored)) == count
    assert parts.train
    seen = shown(videos, parts.train)
    assert not seen & set(parts.unseen)
    assert seen | set(parts.unseen) == shown(videos, list(videos))  # also where one takes another along
    assert set(unseen) <= set(parts.unseen)
    assert named or unseen == parts.unseen
    backwards = dict(reversed(videos.items()))
    assert hold_out(backwards, able[::-1], count, unseen[::-1], seed) == parts
    assert named or draw_unseen(backwards, able[::-1], 1 + seed % 3, seed) == unseen


@given(videos=some_videos, seed=st.integers(0, 9))
def test_a_category_is_refused_only_if_it_cannot_leave_alone(videos, seed):
    every = shown(videos, list(videos))
    alone = {
        category
        for category in every
        if shown(videos, [name for name in videos if category not in shown(videos, [name])]) == every - {category}
    }
    if len(every) > 1 and alone:
        assert set(draw_unseen(videos, list(videos), 1, seed)) <= alone
    else:
        with pytest.raises(ConfigError, match=r"^1 unseen categories are asked for, but .* only 0 can leave"):
            draw_unseen(videos, list(videos), 1, seed)


def test_half_of_the_scored_videos_show_each_unseen_category_and_the_seeds_differ():
    videos = meta(**{f"v{n:03d}": f"c{n % 20} c{n % 7}" for n in range(140)})
    drawn = {}
    for seed in range(5):
        unseen = draw_unseen(videos, list(videos), 3, seed)
        parts = hold_out(videos, list(videos), 20, unseen, seed)
        of_unseen = [name for name in parts.scored if shown(videos, [name]) & set(unseen)]
        assert len(of_unseen) == 10
        assert shown(videos, of_unseen) >= set(unseen)
        drawn[seed] = (tuple(unseen), tuple(parts.scored))
    assert len(set(drawn.values())) == 5


def test_a_rare_unseen_category_is_scored_beside_a_common_one():
    videos = meta(rare="y", **{f"x{n}": "x" for n in range(30)}, **{f"z{n}": "z" for n in range(30)})
    for seed in range(5):
        assert "rare" in hold_out(videos, list(videos), 4, ["x", "y"], seed).scored


def test_scored_videos_are_of_the_other_half_where_one_is_too_small():
    videos = meta(a="x", b="x", c="y", d="z", e="z")
    assert hold_out(videos, ["a", "b", "d", "e"], 3, ["x"]).scored[:2] == ["a", "b"]  # of z one is to train on
    videos = meta(a="x", b="z", c="z", d="z", e="z")
    assert hold_out(videos, list(videos), 4, ["x"]).scored[0] == "a"


@pytest.mark.parametrize(
    ("count", "unseen", "words"),
    [
        (4, ["x"], r"^4 videos to score are asked for: expected 1 to 3, those with masks$"),
        (0, ["x"], r"^0 videos to score are asked for"),
        (3, ["x"], r"only 2 can be held out while every seen category keeps a video to train on: ask for fewer$"),
        (1, ["x", "y", "z"], r"^each of the 4 videos shows an unseen category: leave some to train on$"),
        (1, ["w"], r"no video has the category w"),
    ],
)
def test_more_than_there_is_is_told(count, unseen, words):
    with pytest.raises(ConfigError, match=words):
        hold_out(meta(a="x", b="y", c="z", d="x z"), ["a", "b", "d"], count, unseen)


def test_too_many_categories_are_told():
    videos = meta(a="x", b="y", c="z")
    assert len(draw_unseen(videos, list(videos), 2)) == 2
    with pytest.raises(ConfigError, match=r"3 unseen categories .* of the 3 only 2 can leave training without"):
        draw_unseen(videos, list(videos), 3)
    with pytest.raises(ConfigError, match="only 1 can leave training without another one and have a video with"):
        draw_unseen(videos, ["a"], 2)
    with pytest.raises(ConfigError, match="0 unseen categories are asked for: expected at least 1"):
        draw_unseen(videos, list(videos), 0)
