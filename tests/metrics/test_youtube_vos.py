"""Scores of YouTube-VOS, compared with a slow loop."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.data.youtube_vos import youtube_vos_meta, youtube_vos_sequences
from vos_umec.errors import ConfigError, DataError, MaskError
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.metrics import score_files
from vos_umec.metrics.jf import boundary_f
from vos_umec.metrics.results import evaluate, print_table
from vos_umec.metrics.youtube_vos import evaluate_youtube_vos

STEMS = [f"{t:05d}" for t in range(0, 30, 5)]
# By video and object: category, and the frame it appears on. 9 of b appears on the last one.
OBJECTS = {
    "a": {1: ("dog", 0), 4: ("panda", 2)},
    "b": {2: ("dog", 1), 9: ("cat", 5)},
    "train1": {1: ("dog", 0)},
    "train2": {1: ("cat", 0)},
}


def blocks(seed: int, ids: list[int]) -> np.ndarray:
    """(24, 32) of 8 x 8 blocks of some ids and the background."""
    drawn = np.random.default_rng(seed).choice([0, *ids], (3, 4))
    return drawn.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A root with train, and results of videos a and b, which training held out."""
    root, results = tmp_path / "ytvos", tmp_path / "results"
    videos = {}
    for n, (video, objects) in enumerate(OBJECTS.items()):
        (root / "train" / "JPEGImages" / video).mkdir(parents=True)
        for t, stem in enumerate(STEMS):
            there = [k for k, (_, first) in objects.items() if first <= t]
            target = blocks(10 * n + t, there)
            target[:8, : 8 * len(there)] = np.repeat(there, 8)  # every one is seen
            target[16:, 24:] = 255
            Image.new("RGB", (32, 24)).save(root / "train" / "JPEGImages" / video / f"{stem}.jpg")
            write_mask(root / "train" / "Annotations" / video / f"{stem}.png", target)
            if video in "ab":
                write_mask(results / video / f"{stem}.png", blocks(100 + 10 * n + t, [*objects, 77]))
        items = {str(k): {"category": c, "frames": STEMS[first:]} for k, (c, first) in objects.items()}
        videos[video] = {"objects": items}
    (root / "train" / "meta.json").write_text(json.dumps({"videos": videos}))
    return root, results


def slow(root: Path, results: Path, video: str, k: int) -> tuple[float, float]:
    """J and F of one object: every annotated frame after the one it appears on, by sets of pixels."""
    J, F = [], []
    for stem in STEMS[OBJECTS[video][k][1] + 1 :]:
        target = read_mask(root / "train" / "Annotations" / video / f"{stem}.png") == k
        prediction = read_mask(results / video / f"{stem}.png") == k
        pixels = [set(zip(*np.nonzero(mask), strict=True)) for mask in (prediction, target)]
        union = pixels[0] | pixels[1]
        J.append(len(pixels[0] & pixels[1]) / len(union) if union else 1.0)
        F.append(boundary_f(prediction[None], target[None])[0])
    return float(np.mean(J)), float(np.mean(F))


def test_scores_are_those_of_a_slow_loop(folders, caplog, capsys):
    root, results = folders
    found = evaluate(results, root, "youtube-vos", videos=["a", "b"])
    scores = json.loads(found.to_json())
    assert scores["objects"] == found.objects
    expected = {key: slow(root, results, *key) for key in (("a", 1), ("a", 4), ("b", 2))}
    rows = scores.pop("objects")
    assert [(row["sequence"], row["object"], row["category"], row["seen"]) for row in rows] == [
        ("a", 1, "dog", 1),
        ("a", 4, "panda", 0),
        ("b", 2, "dog", 1),
    ]
    for row in rows:
        assert (row["J-Mean"], row["F-Mean"]) == pytest.approx(expected[row["sequence"], row["object"]], abs=1e-12)
    seen = np.mean([expected["a", 1], expected["b", 2]], axis=0)
    means = {"J_seen": seen[0], "F_seen": seen[1], "J_unseen": expected["a", 4][0], "F_unseen": expected["a", 4][1]}
    assert scores == pytest.approx({**means, "overall": np.mean(list(means.values()))}, abs=1e-12)
    assert list(scores) == ["overall", "J_seen", "J_unseen", "F_seen", "F_unseen"]
    assert "b: object [9] appears on the last annotated frame and is not scored" in caplog.text
    print_table(found.table())
    printed = capsys.readouterr().out
    assert "panda" in printed
    assert f"{100 * scores['overall']:.1f}" in printed.splitlines()[-3]


def test_perfect_results_score_one_and_frames_before_an_object_are_not_needed(folders, tmp_path):
    root, results = folders
    shutil.rmtree(results)
    shutil.copytree(root / "train" / "Annotations", results)
    (results / "a" / "00000.png").unlink()
    (results / "b" / "00000.png").unlink()
    (results / "b" / "00005.png").write_bytes(b"not a picture")
    sequences = youtube_vos_sequences(root, videos=["a", "b"])
    scores = evaluate_youtube_vos(results, sequences, youtube_vos_meta(root), unseen=["panda"])
    assert set(scores.overall.values()) == {1.0}


def test_a_frame_that_is_not_asked_for_is_not_scored(folders):
    """Where every object is out of view, meta.json lists none, and predict writes nothing."""
    root, results = folders
    (sequence,) = youtube_vos_sequences(root, videos=["a"])
    before = evaluate_youtube_vos(results, [sequence], youtube_vos_meta(root), unseen=["panda"])
    meta = json.loads((root / "train" / "meta.json").read_text())
    for item in meta["videos"]["a"]["objects"].values():
        item["frames"].remove(STEMS[3])
    (root / "train" / "meta.json").write_text(json.dumps(meta))
    (results / "a" / f"{STEMS[3]}.png").unlink()
    (sequence,) = youtube_vos_sequences(root, videos=["a"])
    assert sequence.required_names() == STEMS[:3] + STEMS[4:]
    after = evaluate_youtube_vos(results, [sequence], youtube_vos_meta(root), unseen=["panda"])
    assert after.overall != before.overall
    shutil.rmtree(results)
    shutil.copytree(root / "train" / "Annotations", results)
    (results / "a" / f"{STEMS[3]}.png").unlink()
    perfect = evaluate_youtube_vos(results, [sequence], youtube_vos_meta(root), unseen=["panda"])
    assert set(perfect.overall.values()) == {1.0}


def test_workers_do_not_change_the_scores(folders, monkeypatch):
    root, results = folders
    monkeypatch.setattr(score_files, "_WORTH_A_PROCESS", 0)
    arguments = results, youtube_vos_sequences(root, videos=["a", "b"]), youtube_vos_meta(root), ["panda"]
    assert evaluate_youtube_vos(*arguments, workers=2) == evaluate_youtube_vos(*arguments)


def test_unseen_categories_may_be_named(folders):
    root, results = folders
    shutil.copytree(results / "a", results / "train1")
    scores = evaluate(results, root, "youtube-vos", videos=["train1", "a"], unseen=["dog"])
    assert {row["category"]: row["seen"] for row in scores.objects} == {"dog": 0, "panda": 1}
    with pytest.raises(ConfigError, match="dgo"):
        evaluate(results, root, "youtube-vos", videos=["train1", "a"], unseen=["dgo"])


def test_where_no_category_is_unseen_there_is_no_overall_figure(folders):
    root, results = folders
    found = evaluate(results, root, "youtube-vos", videos=["b"])
    assert found.table().row_count == 4
    scores = json.loads(found.to_json())
    assert scores["overall"] is scores["J_unseen"] is scores["F_unseen"] is None
    assert scores["J_seen"] == pytest.approx(slow(root, results, "b", 2)[0], abs=1e-12)


def test_what_is_missing_is_one_clear_error(folders):
    root, results = folders
    with pytest.raises(ConfigError, match=r"all videos of train.*videos.*unseen"):
        evaluate(results, root, "youtube-vos")
    write_mask(results / "a" / "00025.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(MaskError, match=r"a/00025.png is 16 x 12 pixels, its ground truth 32 x 24"):
        evaluate(results, root, "youtube-vos", videos=["a", "b"])
    (results / "a" / "00025.png").unlink()
    with pytest.raises(DataError, match=r"a lacks 1 of the 5 scored frames \(00025.png\)"):
        evaluate(results, root, "youtube-vos", videos=["a", "b"])
    shutil.rmtree(results / "b")
    with pytest.raises(DataError, match=r"no results of 1 of 2 sequences \(b\)"):
        evaluate(results, root, "youtube-vos", videos=["a", "b"])
    meta = json.loads((root / "train" / "meta.json").read_text())
    del meta["videos"]["a"]["objects"]["4"]["category"]
    (root / "train" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match="no category of the object 4 of a"):
        evaluate(results, root, "youtube-vos", videos=["a", "b"])
    (root / "train" / "meta.json").unlink()
    with pytest.raises(DataError, match=r"no meta\.json in"):
        evaluate(results, root, "youtube-vos", videos=["a", "b"])


def test_a_hidden_ground_truth_cannot_be_scored(folders):
    root, results = folders
    for stem in STEMS[1:]:
        (root / "train" / "Annotations" / "train1" / f"{stem}.png").unlink()
    shutil.copytree(results / "a", results / "train1")
    sequences = youtube_vos_sequences(root, videos=["train1"])
    with pytest.raises(DataError, match="no object of the 1 videos has a mask after its first"):
        evaluate_youtube_vos(results, sequences, youtube_vos_meta(root), unseen=[])
