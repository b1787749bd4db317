"""The tables of a set against numpy, and what they leave out."""

import csv
import json
import sys

import numpy as np
import pytest
from toys import BASE, make_setting, scores

from plan import overlay
from summary import write_summary


def put(setting, cell, seed, result) -> None:
    folder = setting.out / cell / f"seed_{seed}"
    folder.mkdir(parents=True)
    who = {"cell": cell, "seed": seed, "setting": setting.fingerprint, "training": "trainings/x"}
    (folder / ("failed.json" if "reason" in result else "result.json")).write_text(json.dumps({**who, **result}))


@pytest.fixture
def setting(tmp_path):
    setting = make_setting(tmp_path)
    for seed, (whole, propagation, dog) in enumerate([(0.70, 0.65, 0.9), (0.72, 0.61, 0.8), (0.65, 0.66, 0.4)]):
        put(setting, "4e_rounds_3", seed, scores(whole, propagation, dog=dog, cat=0.5))
    put(setting, "4e_rounds_10", 0, scores(0.4))
    put(setting, "4a_all", 0, scores(0.6))
    put(setting, "4a_all", 1, {"reason": "no room | on the disk"})
    other = make_setting(tmp_path, overlay(BASE, {"refresh": {"clusters": 9}}))
    put(other, "4a_both", 0, scores(0.99))
    return setting


def test_mean_and_spread_are_numpys_and_the_papers_figure_stands_beside(setting):
    write_summary(setting)
    table = (setting.out / "table.md").read_text().splitlines()
    cells = [[each.strip() for each in row.strip("|").split("|")] for row in table if row.startswith("|")]
    assert [row[0] for row in cells[2:]] == ["4a_all", "4a_all, seed 1", "4e_rounds_3", "4e_rounds_10"]
    values = 100 * np.array([0.70, 0.72, 0.65])
    propagated = 100 * np.array([0.65, 0.61, 0.66])
    row = dict(zip(cells[0], cells[4], strict=True))
    assert row["seeds"] == "3"
    assert row["whole model, J&F"] == f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
    assert row["whole model, F"] == f"{values.mean() - 10:.1f} ± {values.std(ddof=1):.1f}"
    assert row["label propagation, J&F"] == f"{propagated.mean():.1f} ± {propagated.std(ddof=1):.1f}"
    assert row["paper's J&F"] == "74.5"
    assert (row["frames a second"], row["paper's frames a second"]) == ("2.00", "1.77")
    assert cells[2][2] == "60.0"  # one seed: no spread
    assert cells[3][1] == "failed: no room / on the disk"
    assert all(len(row) == len(cells[0]) for row in cells)
    assert (setting.out / "table.png").read_bytes().startswith(b"\x89PNG")


def test_the_comma_separated_table_has_sequences_and_failures(setting):
    write_summary(setting)
    with (setting.out / "table.csv").open() as file:
        rows = {row["cell"]: row for row in csv.DictReader(file)}
    dog = 100 * np.array([0.9, 0.8, 0.4])
    assert float(rows["4e_rounds_3"]["umec J&F dog"]) == pytest.approx(dog.mean())
    assert float(rows["4e_rounds_3"]["umec J&F dog deviation"]) == pytest.approx(dog.std(ddof=1))
    assert rows["4e_rounds_10"]["umec J&F cat"] == ""
    assert rows["4a_all"]["failed"] == "seed 1: no room | on the disk"
    assert "4a_both" not in rows  # of another base


def test_speeds_are_in_the_table_only_where_they_were_measured(tmp_path):
    setting = make_setting(tmp_path)
    untimed = {name: value for name, value in scores(0.7).items() if name != "frames_per_second"}
    put(setting, "4e_rounds_3", 0, untimed)
    write_summary(setting)
    assert "frames a second" not in (setting.out / "table.md").read_text()
    put(setting, "4e_rounds_3", 1, {**untimed, "frames_per_second": 3.0})
    put(setting, "4e_rounds_3", 2, {**untimed, "frames_per_second": 5.0})
    put(setting, "4e_rounds_4", 0, untimed)
    write_summary(setting)
    table = (setting.out / "table.md").read_text()
    assert "| 74.5 | 4.00 | 1.77 |\n" in table  # the mean of the seeds that have one
    assert "| 74.3 |  | 1.73 |\n" in table


def test_each_run_is_logged_once(setting):
    write_summary(setting)
    write_summary(setting)
    logged = (setting.out / "log.md").read_text().splitlines()
    assert len(logged) == 2 + 5
    assert "| 4e_rounds_3 | 2 | trainings/x | 10.0 | 65.0 | 66.0 | dog 40.0, cat 50.0 |" in logged


def test_without_matplotlib_the_log_says_so_and_the_rest_is_there(setting, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_summary(setting)
    assert "matplotlib" in caplog.text
    assert (setting.out / "table.md").is_file()
    assert not (setting.out / "table.png").exists()


def test_a_set_without_a_result_has_an_empty_table(tmp_path):
    setting = make_setting(tmp_path)
    write_summary(setting)
    assert (setting.out / "table.csv").read_text().count("\n") == 1  # the head
    assert not (setting.out / "log.md").exists()
