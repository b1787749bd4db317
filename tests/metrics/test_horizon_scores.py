"""Means, paired differences and counts by horizon against plain loops; the table, the JSON and the plot."""

import json
import random
import statistics
import sys

import numpy as np
import pytest
from PIL import Image

from vos_umec.errors import MaskError
from vos_umec.metrics.horizon import MEASURES, Difference, HorizonScores, score_objects

METHODS = ["label_propagation", "final", "coarse"]
LENGTHS = {"dog": 30, "cat": 10}


@pytest.fixture
def scores() -> HorizonScores:
    """Two objects of two sequences, three starts; the last method has no rows of one start."""
    draw = random.Random(0)
    rows = []
    for sequence, frames in LENGTHS.items():
        for start in range(0, frames, frames // 3)[:3]:
            for horizon in (1, 12, 4):
                for method in METHODS:
                    if start + horizon >= frames or (method == "coarse" and start == 10):
                        continue
                    for k in (2, 7):
                        j, f = draw.random(), draw.random()
                        place = {"sequence": sequence, "object": k, "start": start, "method": method}
                        frame = {"horizon": horizon, "frame": start + horizon}
                        rows.append({**place, **frame, "J": j, "F": f, "J&F": (j + f) / 2})
            if start == 0:
                rows += [{**row, "horizon": "end", "frame": frames - 1} for row in rows[-6:]]
    return HorizonScores(rows)


def test_means_and_differences_are_those_of_a_loop(scores):
    assert (scores.methods, scores.horizons) == (METHODS, [1, 4, 12, "end"])
    seen = set()
    for method in METHODS:
        for horizon in scores.horizons:
            for measure in MEASURES:
                values, differences = [], []
                for row in scores.rows:
                    if (row["method"], row["horizon"]) != (method, horizon):
                        continue
                    values.append(row[measure])
                    (partner,) = [
                        other[measure]
                        for other in scores.rows
                        if other["method"] == METHODS[0]
                        and all(other[name] == row[name] for name in ("sequence", "object", "start", "horizon"))
                    ]
                    differences.append(row[measure] - partner)
                assert scores.mean(method, horizon, measure) == pytest.approx(statistics.mean(values))
                found = scores.difference(method, horizon, measure)
                error = statistics.stdev(differences) / len(differences) ** 0.5
                assert found.mean == pytest.approx(statistics.mean(differences))
                assert found.error == pytest.approx(error)
                assert (found.pairs, found.above) == (len(values), sum(d > 0 for d in differences))
                seen.add(found.above)
    assert len(seen) > 2


def test_a_sequence_counts_only_for_the_horizons_that_it_reaches(scores):
    pairs = {(line["horizon"], line["method"]): line["pairs"] for line in scores.summary()}
    # dog starts at 0, 10 and 20, cat at 0, 3 and 6; two objects each
    assert [pairs[h, "label_propagation"] for h in (1, 4, 12, "end")] == [12, 10, 4, 4]
    assert [pairs[h, "coarse"] for h in (1, 4, 12, "end")] == [10, 8, 2, 4]
    assert np.isnan(scores.mean("coarse", 24, "J"))


def test_one_pair_has_no_error_and_joined_rows_are_compared(scores):
    rows = [row for row in scores.rows if (row["method"], row["object"], row["start"]) == (METHODS[0], 2, 10)]
    again = HorizonScores([*rows, *({**row, "method": "again"} for row in rows)])
    assert again.methods == [METHODS[0], "again"]
    assert again.difference("again", 12, "F") == Difference(0.0, None, 1, 0)
    assert again.summary()[1]["difference"]["F"]["error"] is None


def test_table_and_json_hold_the_same_figures(scores):
    told = json.loads(scores.to_json(checkpoint="a.ckpt"))
    assert list(told) == ["checkpoint", "summary", "rows"]
    assert told["rows"] == scores.rows
    assert HorizonScores(told["rows"]).summary() == told["summary"] == scores.summary()
    cells = list(zip(*(column.cells for column in scores.table().columns), strict=True))
    assert len(cells) == len(told["summary"]) == 4 * 3
    line = told["summary"][4]
    difference = line["difference"]["J"]
    assert (line["horizon"], line["method"], line["minus"]) == (4, "final", "label_propagation")
    assert cells[4][:3] == ("4", "10", "final")
    assert cells[4][4] == f"{100 * line['J']:.1f}"
    assert cells[4][7] == f"{100 * difference['mean']:+.1f} ± {100 * difference['error']:.1f}"
    assert cells[4][9] == f"{line['difference']['J&F']['above']} of 10"
    assert cells[3][6:] == ("", "", "", "")  # the first method is not compared with itself


def test_the_plot_is_drawn_or_its_absence_told(scores, tmp_path, monkeypatch, caplog):
    only = HorizonScores([row for row in scores.rows if row["method"] == METHODS[0]])
    for which in (scores, only):
        assert which.save_plot(tmp_path / "horizon.png") == tmp_path / "horizon.png"
        with Image.open(tmp_path / "horizon.png") as picture:
            assert picture.size == (1320, 840)
            assert len(np.unique(np.asarray(picture))) > 20
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert scores.save_plot(tmp_path / "other.png") is None
    assert "matplotlib" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["horizon.png"]


def test_objects_are_scored_one_by_one_and_void_is_background():
    truth = np.zeros((40, 60), np.uint8)
    truth[10:20, 10:20], truth[30:35, 30:40] = 7, 255
    found = truth.copy()
    found[10:20, 10:30] = 7
    found[30:35, 30:40] = 9
    seven, nine, gone = score_objects(found, truth, [7, 9, 11])
    assert (seven["object"], seven["J"]) == (7, 0.5)
    assert 0 < seven["F"] < 1
    assert seven["J&F"] == (seven["J"] + seven["F"]) / 2
    assert (nine["J"], nine["F"]) == (0, 0)
    assert (gone["J"], gone["F"]) == (1, 1)
    with pytest.raises(MaskError, match=r"\(3, 20, 60\)"):
        score_objects(found[:20], truth, [7, 9, 11])
