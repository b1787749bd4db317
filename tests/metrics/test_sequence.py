"""Scores of one sequence, and their statistics over the frames."""

import logging
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vos_umec.errors import DataError, MaskError
from vos_umec.metrics.jf import boundary_f, jaccard
from vos_umec.metrics.sequence import FIGURES, SequenceScorer, mean_recall_decay, overall


def slow_quarters(n):
    """Frames, from 0, of the first and the last quarter: borders 1 + (n - 1) k / 4 rounded half up, shared."""
    borders = [(1 + Fraction(n - 1, 4) * k + Fraction(1, 2)).__floor__() for k in range(5)]
    return range(borders[0] - 1, borders[1]), range(borders[3] - 1, borders[4])


@pytest.mark.parametrize("n", [*range(1, 301), 350, 500, 1200])
def test_decay_for_any_length(n):
    values = np.random.default_rng(n).random(n)
    first, last = slow_quarters(n)
    expected = sum(values[i] for i in first) / len(first) - sum(values[i] for i in last) / len(last)
    assert mean_recall_decay(values).decay == pytest.approx(expected, abs=1e-12)


def test_decay_of_a_long_video_is_not_computed_in_8_bits():
    values = np.linspace(1, 0, 300)  # in 8 bits the last border, 299, is 43, and the last quarter is empty
    assert mean_recall_decay(values).decay == pytest.approx(values[:76].mean() - values[224:].mean())
    assert mean_recall_decay(values).decay == pytest.approx(0.75, abs=0.01)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_mean_recall_and_bounds(values):
    mean, recall, decay = mean_recall_decay(values)
    assert mean == pytest.approx(sum(values) / len(values))
    assert recall == pytest.approx(sum(value > 0.5 for value in values) / len(values))
    assert -1 <= decay <= 1
    # On one frame the quarters are the same; for more the decay turns round with time.
    assert mean_recall_decay(values[::-1]).mean == pytest.approx(mean)


def test_recall_is_strict():
    assert mean_recall_decay([0.5, 0.5]).recall == 0
    assert mean_recall_decay([np.nextafter(0.5, 1), 0.5]).recall == 0.5


@pytest.mark.parametrize("values", [[], [[0.5, 0.5]], 0.5])
def test_statistics_refuse_what_is_not_a_list_of_values(values):
    with pytest.raises(DataError, match=r"expected \(T,\)"):
        mean_recall_decay(values)


def random_ids(seed, T=7, ids=(0, 1, 5), size=(24, 36)):
    """Blocky random ids, (T, H, W) uint8."""
    blocks = np.random.default_rng(seed).choice(np.array(ids, np.uint8), (T, size[0] // 6, size[1] // 6))
    return blocks.repeat(6, axis=1).repeat(6, axis=2)


def score(prediction, target):
    scorer = SequenceScorer("dog")
    for frame, truth in zip(prediction, target, strict=True):
        scorer.update(frame, truth)
    return scorer.rows()


def test_rows_are_the_figures_of_the_middle_frames():
    prediction, target = random_ids(0), random_ids(1)
    rows = score(prediction, target)
    assert [(row["sequence"], row["object"]) for row in rows] == [("dog", 1), ("dog", 5)]
    for row in rows:
        mask, truth = (ids[1:-1] == row["object"] for ids in (prediction, target))
        J, F = mean_recall_decay(jaccard(mask, truth)), mean_recall_decay(boundary_f(mask, truth))
        assert [row[name] for name in FIGURES] == pytest.approx([(J.mean + F.mean) / 2, *J, *F])


def test_first_and_last_prediction_do_not_count():
    prediction, target = random_ids(0), random_ids(1)
    altered = prediction.copy()
    altered[0], altered[-1] = 0, 1
    assert score(altered, target) == score(prediction, target)
    altered[1] = 0
    assert score(altered, target) != score(prediction, target)


def test_objects_are_the_ids_of_the_first_frame():
    target = random_ids(1, ids=(0, 1))
    target[0, :3] = 9
    target[1:, :3] = 4  # 9 leaves, 4 comes later and is nobody's object
    rows = score(target, target)
    assert [row["object"] for row in rows] == [1, 9]
    assert rows[1]["J&F"] == 1  # correctly absent


def test_void_is_background():
    target = random_ids(1, ids=(0, 1))
    void = np.where((target == 0) & (random_ids(2) == 5), 255, target).astype(np.uint8)
    prediction = random_ids(3, ids=(0, 1))
    assert score(prediction, void) == score(prediction, target)


def test_unknown_ids_are_background_and_warned_of_once(caplog):
    prediction, target = random_ids(0), random_ids(1)
    strange = np.where(prediction == 0, random_ids(2, ids=(0, 3, 255)), prediction)
    with caplog.at_level(logging.WARNING):
        assert score(strange, target) == score(prediction, target)
    assert [record.getMessage() for record in caplog.records] == [
        "dog: predicted ids 3, 255 are not in the ground truth (1, 5) and count as background"
    ]


def test_no_warning_for_known_ids(caplog):
    target = random_ids(1, ids=(0, 1))
    target[3:, :3] = 4
    with caplog.at_level(logging.WARNING):
        score(target, target)
    assert not caplog.records


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_any_integer_type(dtype):
    prediction, target = random_ids(0), random_ids(1)
    assert score(prediction.astype(dtype), target) == score(prediction, target)
    assert score(prediction, target.astype(dtype)) == score(prediction, target)


@pytest.mark.parametrize(
    ("prediction", "found"),
    [
        (np.zeros((24, 30), np.uint8), r"frame 1 of dog: the prediction is \(24, 30\) uint8"),
        (np.zeros((24, 36), np.float32), "float32"),
        (np.zeros((1, 24, 36), np.uint8), r"\(1, 24, 36\)"),
    ],
)
def test_refuses_what_is_not_an_id_map_of_that_size(prediction, found):
    target = random_ids(1)
    scorer = SequenceScorer("dog")
    scorer.update(target[0], target[0])
    with pytest.raises(MaskError, match=found):
        scorer.update(prediction, target[1])


def test_refuses_sequences_that_cannot_be_scored():
    target = random_ids(1)
    with pytest.raises(DataError, match=r"dog has 2 frame\(s\)"):
        score(target[:2], target[:2])
    with pytest.raises(DataError, match=r"dog has 0 frame\(s\)"):
        SequenceScorer("dog").rows()
    target[0] = 255
    with pytest.raises(DataError, match="no object in its first ground truth"):
        score(target, target)


def test_overall_is_the_mean_over_objects():
    rows = score(random_ids(0), random_ids(1)) + score(random_ids(2, ids=(0, 1)), random_ids(3, ids=(0, 1)))
    assert len(rows) == 3
    figures = overall(rows)
    for name in FIGURES:
        assert figures[name] == pytest.approx(sum(row[name] for row in rows) / 3)
    assert figures["J&F"] == pytest.approx((figures["J-Mean"] + figures["F-Mean"]) / 2)
    assert all(np.isnan(value) for value in overall([]).values())


ids_of_a_frame = st.sampled_from([0, 1, 2, 7, 254, 255])  # gaps, the highest id, void
clips = st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 7, 63, 64, 65, 70])).flatmap(
    lambda size: st.tuples(*[npst.arrays(np.uint8, (4, *size), elements=ids_of_a_frame, fill=ids_of_a_frame)] * 2)
)


def slow_scores(prediction, target, object_id):
    """J and F of one object in one frame, pixel by pixel; a match is at most ceil(0.008 of the diagonal) away."""
    H, W = target.shape
    masks = [[[ids[y, x] == object_id for x in range(W)] for y in range(H)] for ids in (prediction, target)]
    places = [(y, x) for y in range(H) for x in range(W)]
    both, either = (sum(f(masks[0][y][x], masks[1][y][x]) for y, x in places) for f in (min, max))
    contours = []
    for mask in masks:
        around = [
            (y, x, (min(y + v, H - 1), min(x + u, W - 1))) for y, x in places for v, u in [(0, 1), (1, 0), (1, 1)]
        ]
        contours.append({(y, x) for y, x, (v, u) in around if mask[y][x] != mask[v][u]})
    radius = math.ceil(0.008 * math.hypot(H, W))
    fractions = []
    for ours, theirs in (contours, contours[::-1]):
        near = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in theirs) for y, x in ours]
        fractions.append(sum(near) / len(near) if near else float(not theirs))
    return both / either if either else 1.0, 2 * np.prod(fractions) / sum(fractions) if sum(fractions) else 0.0


@given(clips)
@settings(max_examples=60, deadline=None)
def test_equals_a_loop_over_objects_and_pixels(clip):
    prediction, target = clip
    objects = sorted(set(target[0].ravel().tolist()) - {0, 255})
    if not objects:
        with pytest.raises(DataError, match="no object"):
            score(prediction, target)
        return
    rows = score(prediction, target)
    assert [row["object"] for row in rows] == objects
    for row in rows:
        values = [slow_scores(prediction[t], target[t], row["object"]) for t in (1, 2)]
        assert [row["J-Mean"], row["F-Mean"]] == pytest.approx(np.mean(values, axis=0).tolist(), abs=1e-12)


def test_scores_by_frame_are_those_that_the_means_are_of():
    rng = np.random.default_rng(3)
    truth, found = rng.integers(0, 3, (2, 7, 20, 30)).astype(np.uint8)
    scorer = SequenceScorer("dog")
    for mask, target in zip(found, truth, strict=True):
        scorer.update(mask, target)
    rows = scorer.frame_rows()
    assert [(row["frame"], row["object"]) for row in rows] == [(t, k) for t in range(1, 6) for k in (1, 2)]
    for of in scorer.rows():
        k = of["object"]
        own = [row for row in rows if row["object"] == k]
        np.testing.assert_allclose([row["J"] for row in own], jaccard(found == k, truth == k)[1:-1])
        np.testing.assert_allclose([row["F"] for row in own], boundary_f(found == k, truth == k)[1:-1])
        assert np.mean([row["J&F"] for row in own]) == pytest.approx(of["J&F"])


def test_there_are_no_scores_by_frame_before_the_third_frame():
    scorer = SequenceScorer("dog")
    for _ in range(2):
        scorer.update(np.ones((4, 4), np.uint8), np.ones((4, 4), np.uint8))
        assert scorer.frame_rows() == []
