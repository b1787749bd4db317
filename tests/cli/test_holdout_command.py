"""`vos-umec holdout`: its lists are what training, prediction and scoring take."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli.main import main
from vos_umec.data.youtube_vos import read_names
from vos_umec.io.masks import write_mask

CATEGORIES = {"a": "dog", "b": "dog", "c": "cat", "d": "cat", "e": "snail", "f": "snail"}
STEMS = ["00000", "00005", "00010"]


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


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["holdout", *map(str, words)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_lists_part_the_videos_and_fit_the_other_commands(ytvos, tmp_path, capsys):
    from vos_umec import YouTubeVOSDataModule, YouTubeVOSPredictDataModule

    out, again = tmp_path / "new" / "held out", tmp_path / "again"
    words = ["--videos", "2", "--unseen-categories", "1", "--seed", "3"]
    assert main(["holdout", str(ytvos), "--out", str(out), *words]) == 0
    told = capsys.readouterr().out
    found = lists(out)
    assert sorted(found) == ["held_out", "scored", "train", "unseen"]
    assert sorted([*found["train"], *found["held_out"]]) == [*CATEGORIES, "g"]
    assert "g" in found["held_out"]
    assert "f" not in found["scored"]
    assert "1 held out because meta.json does not say what they show, such as g" in told
    assert "2 of these to score, 1 of them with objects of 1 unseen categories" in told
    assert not {CATEGORIES[video] for video in found["train"]} & set(found["unseen"])

    clips = {"batch_size": 1, "clip_length": 2, "num_workers": 0, "gap": 1}
    training = YouTubeVOSDataModule(str(ytvos), held_out=str(out / "held_out.txt"), **clips)
    assert [entry.id for entry in training.find_videos()] == found["train"]
    predicting = YouTubeVOSPredictDataModule(str(ytvos), split="train", videos=str(out / "scored.txt"))
    assert [sequence.name for sequence in predicting.find_sequences()] == found["scored"]
    results = tmp_path / "results"
    for video in found["scored"]:
        shutil.copytree(ytvos / "train" / "Annotations" / video, results / video)
    *_, line = told.splitlines()
    assert f"--videos '{out}/scored.txt' --unseen '{out}/unseen.txt'" in line
    scoring = ["--dataset", "youtube-vos", "--root", str(ytvos), "--videos", str(out / "scored.txt")]
    scoring += ["--unseen", str(out / "unseen.txt"), "--json", str(tmp_path / "scores.json")]
    assert main(["evaluate", str(results), *scoring]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    parts = ("J_seen", "J_unseen", "F_seen", "F_unseen")
    assert [scores[part] for part in parts] == [1.0] * 4

    assert main(["holdout", str(ytvos), "--out", str(again), *words]) == 0
    assert lists(again) == found


def test_categories_can_be_named(ytvos, tmp_path):
    (tmp_path / "names.txt").write_text("cat\n")
    words = ["--videos", "3", "--unseen", str(tmp_path / "names.txt")]
    assert main(["holdout", str(ytvos), "--out", str(tmp_path / "out"), *words]) == 0
    found = lists(tmp_path / "out")
    assert found["unseen"] == ["cat"]
    assert {"c", "d"} <= set(found["held_out"])


def test_what_does_not_fit_is_one_line_and_writes_nothing(ytvos, tmp_path, capsys):
    out = tmp_path / "out"
    one = ["--out", out, "--videos", 1, "--unseen-categories", 1]
    names = tmp_path / "names.txt"
    names.write_text("cat\ncta\n")
    assert "no video has the category cta" in refused(capsys, ytvos, "--out", out, "--unseen", names)
    assert "9 videos to score are asked for: expected 1 to 5" in refused(capsys, ytvos, *one, "--videos", 9)
    assert "of the 3 only 2" in refused(capsys, ytvos, *one, "--unseen-categories", 3)
    assert "is there, perhaps the lists of a training" in refused(capsys, ytvos, *one, "--out", tmp_path)
    assert f"cannot write {names}/out: " in refused(capsys, ytvos, *one, "--out", names / "out")
    assert f"no meta.json in {ytvos}/train/train: " in refused(capsys, ytvos / "train", *one)
    assert not out.exists()
    shutil.rmtree(ytvos / "train" / "Annotations")
    assert "no video in" in refused(capsys, ytvos, *one)
    for video in CATEGORIES:
        shutil.rmtree(ytvos / "train" / "JPEGImages" / video)
    assert "meta.json has no categories of the 1 videos of" in refused(capsys, ytvos, *one)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["names.txt", "ytvos"]


def test_it_starts_without_torch(tmp_path):
    code = "import sys; from vos_umec.cli.main import main; main(['holdout', 'no', '--out', 'no/out'])"
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True, timeout=20)
