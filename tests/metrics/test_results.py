"""Scores of folders of results, by the DAVIS rules."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.data.davis import davis_sequences
from vos_umec.errors import ConfigError, DataError, MaskError
from vos_umec.metrics import score_files
from vos_umec.metrics.results import evaluate, evaluate_results
from vos_umec.metrics.score_files import MaskFiles, score_in_processes, score_sequence
from vos_umec.metrics.sequence import FIGURES, SequenceScorer

# Columns of the official file, by our names.
COLUMNS = {
    "J-Mean": "J_mean",
    "J-Recall": "J_recall",
    "J-Decay": "J_decay",
    "F-Mean": "F_mean",
    "F-Recall": "F_recall",
    "F-Decay": "F_decay",
}


def write_ids(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("P", ids.shape[::-1])
    image.putdata(ids.ravel().tolist())
    image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    image.save(path)


def blocks(seed, T=6, K=2, size=(24, 32)):
    ids = np.random.default_rng(seed).integers(0, K + 1, (T, size[0] // 8, size[1] // 8), dtype=np.uint8)
    ids[0, 0, : K + 1] = range(K + 1)
    return ids.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture
def davis(tmp_path):
    """A DAVIS root and a folder of results of two sequences of 6 frames, 24 x 32; gives both and the ids."""
    root, results, ids = tmp_path / "davis", tmp_path / "results", {}
    for n, name in enumerate(("dog", "cat")):
        prediction, target = blocks(n, K=n + 1), blocks(n + 10, K=n + 1)
        target[target == 0] = np.where(blocks(n + 20)[target == 0] == 1, 255, 0)
        for t in range(len(target)):
            frame = root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg"
            frame.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 24)).save(frame)
            write_ids(root / "Annotations" / "480p" / name / f"{t:05d}.png", target[t])
            write_ids(results / name / f"{t:05d}.png", prediction[t])
        ids[name] = prediction, target
    listing = root / "ImageSets" / "2017" / "val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("dog\ncat\n")
    return root, results, ids


def test_scores_of_files_are_those_of_the_arrays(davis):
    root, results, ids = davis
    expected = []
    for name, (prediction, target) in ids.items():
        scorer = SequenceScorer(name)
        for frame, truth in zip(prediction, target, strict=True):
            scorer.update(frame, truth)
        expected += scorer.rows()
    scores = evaluate_results(str(results), davis_sequences(root))
    assert scores.objects == expected
    assert [(row["sequence"], row["object"]) for row in scores.objects] == [("dog", 1), ("cat", 1), ("cat", 2)]
    text = json.loads(scores.to_json())
    assert text.pop("objects") == expected
    assert text.pop("curves") == scores.curves
    assert [np.mean(curve["J"]) for curve in scores.curves] == [row["J-Mean"] for row in expected]
    assert text == scores.overall
    assert list(text) == list(FIGURES)


def test_evaluate_names_the_data_set_and_its_split(davis):
    root, results, _ = davis
    scores = evaluate(results, root)
    assert scores == evaluate_results(results, davis_sequences(root))
    table = scores.table()
    assert table.row_count == len(scores.objects) + 1
    (root / "ImageSets" / "2017" / "train.txt").write_text("cat")
    assert evaluate(results, root, split="train").objects == scores.objects[1:]
    with pytest.raises(ConfigError, match=r"davis16.*davis17"):
        evaluate(results, root, "davis16")
    with pytest.raises(ConfigError, match=r"videos.*davis17"):
        evaluate(results, root, videos=["dog"])
    with pytest.raises(DataError, match="JPEGImages"):
        evaluate(results, root / "absent")


def test_progress_wraps_the_loop(davis):
    root, results, _ = davis
    seen = []

    def progress(sequences):
        for sequence in sequences:
            seen.append(sequence.name)
            yield sequence

    evaluate_results(results, davis_sequences(root), progress=progress)
    assert seen == ["dog", "cat"]


def test_first_and_last_result_are_not_needed(davis):
    root, results, _ = davis
    expected = evaluate_results(results, davis_sequences(root))
    (results / "dog" / "00000.png").unlink()
    (results / "dog" / "00005.png").write_bytes(b"not a picture")
    assert evaluate_results(results, davis_sequences(root)) == expected


def test_last_ground_truth_is_not_opened(davis):
    root, results, _ = davis
    expected = evaluate_results(results, davis_sequences(root))
    (root / "Annotations" / "480p" / "dog" / "00005.png").write_bytes(b"not a picture")
    assert evaluate_results(results, davis_sequences(root)) == expected


@pytest.fixture
def many(davis, monkeypatch):
    """Sequences enough for several processes, which are then started however small the work is."""
    root, results, _ = davis
    monkeypatch.setattr(score_files, "_WORTH_A_PROCESS", 0)
    for n in range(6):
        for folder in (root / "Annotations" / "480p", root / "JPEGImages" / "480p", results):
            shutil.copytree(folder / "cat", folder / f"cat{n}")
    names = ["dog", "cat", *(f"cat{n}" for n in range(6))]
    (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(names))
    return root, results, names


@pytest.mark.parametrize("workers", [2, 3, 100])
def test_workers_do_not_change_the_scores(many, workers, caplog):
    root, results, names = many
    write_ids(results / "cat5" / "00003.png", np.full((24, 32), 9, np.uint8))
    alone = evaluate_results(results, davis_sequences(root))
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    seen = []
    progress = lambda sequences: (seen.append(sequence.name) or sequence for sequence in sequences)  # noqa: E731
    assert evaluate_results(results, davis_sequences(root), progress, workers) == alone
    assert seen == names
    assert [record.getMessage() for record in caplog.records] == warnings * 2


@pytest.mark.parametrize("name", ["dog", "cat5"])  # one from each end: another process's and our own
def test_an_error_of_a_worker_is_the_same_one_line(many, name):
    root, results, _ = many
    write_ids(results / name / "00003.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(MaskError, match=rf"{name}/00003.png is 16 x 12 pixels, its ground truth 32 x 24") as caught:
        evaluate_results(results, davis_sequences(root), workers=2)
    assert "\n" not in str(caught.value)


class DeadlyPath(type(Path())):
    """Ends the process that receives it."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_worker_that_is_killed_is_one_clear_error():
    files = [MaskFiles("dog", (DeadlyPath("absent.png"),), Path("results")), MaskFiles("cat", (), Path("results"))]
    with pytest.raises(DataError, match="ended from outside"):
        list(score_in_processes(score_sequence, files, workers=2))


def test_refuses_no_workers(davis):
    root, results, _ = davis
    with pytest.raises(ConfigError, match="workers is 0"):
        evaluate_results(results, davis_sequences(root), workers=0)


def fails(davis, error, match):
    root, results, _ = davis
    with pytest.raises(error, match=match) as caught:
        evaluate_results(results, davis_sequences(root))
    assert "\n" not in str(caught.value)


def test_missing_folders(davis):
    _, results, _ = davis
    shutil.rmtree(results / "cat")
    fails(davis, DataError, r"no results of 1 of 2 sequences \(cat\)")
    shutil.rmtree(results)
    fails(davis, DataError, "no folder .*results: expected results as <sequence>/<frame>.png")


def test_missing_frames_are_found_before_scoring(davis):
    root, results, _ = davis
    (results / "cat" / "00002.png").unlink()
    (results / "cat" / "00004.png").unlink()
    fails(davis, DataError, r"cat lacks 2 of the 4 scored frames \(00002.png, 00004.png\)")
    with pytest.raises(DataError, match="lacks 2"):
        evaluate_results(results, davis_sequences(root), progress=lambda sequences: pytest.fail("has begun"))


def test_results_of_another_size(davis):
    _, results, _ = davis
    write_ids(results / "dog" / "00003.png", np.zeros((12, 16), np.uint8))
    fails(davis, MaskError, r"dog/00003.png is 16 x 12 pixels, its ground truth 32 x 24")


def test_results_that_are_colors(davis):
    _, results, _ = davis
    colors = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(colors).save(results / "dog" / "00003.png")
    fails(davis, MaskError, "00003.png")


def test_hidden_ground_truth(davis):
    root, _, _ = davis
    for t in range(1, 6):
        (root / "Annotations" / "480p" / "dog" / f"{t:05d}.png").unlink()
    fails(davis, DataError, r"dog has 1 frame\(s\) with a ground truth.*hidden test set")


def test_equals_the_official_tool(real_data):
    """Figures of a published method, scored by the official tool and printed with 6 decimals."""
    scores = evaluate_results(real_data / "golden" / "osvos", davis_sequences(real_data / "davis"))
    with (real_data / "golden" / "osvos_official.csv").open(newline="") as file:
        official = {(row["sequence"], int(row["object"])): row for row in csv.DictReader(file)}
    assert {(row["sequence"], row["object"]) for row in scores.objects} == set(official)
    for row in scores.objects:
        for name, column in COLUMNS.items():
            theirs = float(official[row["sequence"], row["object"]][column])
            assert row[name] == pytest.approx(theirs, abs=5.1e-7, rel=0), (row["sequence"], name)
    for measure in "JF":
        mean = np.mean([float(row[f"{measure}_mean"]) for row in official.values()])
        assert scores.overall[f"{measure}-Mean"] == pytest.approx(mean, abs=1e-6)
