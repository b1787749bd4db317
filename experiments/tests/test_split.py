"""A held-out split: what its parts promise, on any few videos, and lists that the other commands take."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from split import draw_unseen, hold_out, main
from vos_umec.cli.main import main as vos_umec
from vos_umec.data.sequences import read_names
from vos_umec.data.youtube_vos import Meta, ObjectMeta
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.masks import write_mask

CATEGORIES = {"a": "dog", "b": "dog", "c": "cat", "d": "cat", "e": "snail", "f": "snail"}
STEMS = ["00000", "00005", "00010"]


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
        with pytest.raises(ConfigError, match=r"1 unseen categories .* only 0"):
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
        (4, ["x"], "4 videos .* 1 to 3"),
        (0, ["x"], "0 videos .* 1 to 3"),
        (3, ["x"], "3 videos .* only 2 can be held out"),
        (1, ["x", "y", "z"], "each of the 4 videos shows an unseen category"),
        (1, ["w"], "no video has the category w"),
    ],
)
def test_more_than_there_is_is_told(count, unseen, words):
    with pytest.raises(ConfigError, match=words):
        hold_out(meta(a="x", b="y", c="z", d="x z"), ["a", "b", "d"], count, unseen)


def test_too_many_categories_are_refused():
    videos = meta(a="x", b="y", c="z")
    assert len(draw_unseen(videos, list(videos), 2)) == 2
    for scorable, count, words in (("abc", 3, "3 .* of the 3 only 2"), ("a", 2, "only 1"), ("a", 0, "^0 ")):
        with pytest.raises(ConfigError, match=words):
            draw_unseen(videos, scorable, count)


@pytest.fixture
def ytvos(tmp_path: Path) -> Path:
    """Six videos of three categories, two of each; f has one mask, and of g meta.json says nothing."""
    train = tmp_path / "ytvos" / "train"
    for n, video in enumerate([*CATEGORIES, "g"]):
        (train / "JPEGImages" / video).mkdir(parents=True)
        for t, stem in enumerate(STEMS):
            Image.new("RGB", (24, 16), (40 * n, 80 * t, 0)).save(train / "JPEGImages" / video / f"{stem}.jpg")
            if video != "f" or t == 0:
                mask = np.zeros((16, 24), np.uint8)
                mask[4:12, 4 + t : 12 + t] = 1
                write_mask(train / "Annotations" / video / f"{stem}.png", mask)
    objects = {video: {"objects": {"1": {"category": c, "frames": STEMS}}} for video, c in CATEGORIES.items()}
    (train / "meta.json").write_text(json.dumps({"videos": {**objects, "not_unpacked": objects["a"]}}))
    return train.parent


def lists(folder: Path) -> dict[str, list[str]]:
    return {path.stem: read_names(path) for path in folder.iterdir()}


def test_the_lists_split_the_videos_and_fit_the_other_commands(ytvos, tmp_path, capsys):
    from vos_umec import YouTubeVOSDataModule, YouTubeVOSPredictDataModule

    out, again = tmp_path / "new" / "held out", tmp_path / "again"
    words = ["--videos", "2", "--unseen-categories", "1", "--seed", "3"]
    main([str(ytvos), "--out", str(out), *words])
    printed = capsys.readouterr().out
    found = lists(out)
    assert sorted(found) == ["held_out", "scored", "train", "unseen"]
    assert sorted([*found["train"], *found["held_out"]]) == [*CATEGORIES, "g"]
    assert "g" in found["held_out"]
    assert "f" not in found["scored"]
    assert "1 held out because meta.json does not say what they show, such as g" in printed
    assert "2 of these to score, 1 of them with objects of 1 unseen categories" in printed
    assert not {CATEGORIES[video] for video in found["train"]} & set(found["unseen"])

    clips = {"batch_size": 1, "clip_length": 2, "num_workers": 0, "gap": 1}
    training = YouTubeVOSDataModule(str(ytvos), held_out=str(out / "held_out.txt"), **clips)
    assert [entry.id for entry in training.find_videos()] == found["train"]
    predicting = YouTubeVOSPredictDataModule(str(ytvos), split="train", videos=str(out / "scored.txt"))
    assert [sequence.name for sequence in predicting.find_sequences()] == found["scored"]
    results = tmp_path / "results"
    for video in found["scored"]:
        shutil.copytree(ytvos / "train" / "Annotations" / video, results / video)
    assert f"--videos '{out}/scored.txt' --unseen '{out}/unseen.txt'" in printed.splitlines()[-1]
    scoring = ["--dataset", "youtube-vos", "--root", str(ytvos), "--videos", str(out / "scored.txt")]
    scoring += ["--unseen", str(out / "unseen.txt"), "--json", str(tmp_path / "scores.json")]
    assert vos_umec(["evaluate", str(results), *scoring]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [scores[part] for part in ("J_seen", "J_unseen", "F_seen", "F_unseen")] == [1.0] * 4

    main([str(ytvos), "--out", str(again), *words])
    assert lists(again) == found


def test_unseen_categories_can_be_named(ytvos, tmp_path):
    (tmp_path / "names.txt").write_text("cat\n")
    main([str(ytvos), "--out", str(tmp_path / "out"), "--videos", "3", "--unseen", str(tmp_path / "names.txt")])
    found = lists(tmp_path / "out")
    assert found["unseen"] == ["cat"]
    assert {"c", "d"} <= set(found["held_out"])


def test_data_that_does_not_fit_is_refused_and_nothing_is_written(ytvos, tmp_path):
    def refused(error: type[Exception], words: str, out: Path = tmp_path / "out") -> None:
        with pytest.raises(error, match=words):
            main([str(ytvos), "--out", str(out), "--videos", "1", "--unseen-categories", "1"])

    refused(ConfigError, str(tmp_path), out=tmp_path)
    shutil.rmtree(ytvos / "train" / "Annotations")
    refused(DataError, "no video in .*Annotations")
    for video in CATEGORIES:
        shutil.rmtree(ytvos / "train" / "JPEGImages" / video)
    refused(DataError, "no categories of the 1 videos")
    assert [path.name for path in tmp_path.iterdir()] == ["ytvos"]


def test_it_starts_without_torch_and_an_error_is_one_line(tmp_path):
    script = Path(__file__).parents[1] / "split.py"
    command = [sys.executable, "-X", "importtime", script, "no/such/folder", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    *imports, error = done.stderr.splitlines()
    assert error.startswith("error: no meta.json in no/such/folder/train")
    assert not any(line.split("|")[-1].strip() == "torch" for line in imports)
