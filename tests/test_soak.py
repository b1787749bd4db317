"""The short form of the soak's kills and full disks, and its table."""

import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """The modules of the benchmarks are found, here and in the processes that they start."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.slow
def test_a_killed_training_ends_as_the_one_that_was_not(tmp_path, capsys):
    import soak_kills
    from soak_runs import make_data

    row = soak_kills.kill_training(1, time.monotonic(), tmp_path / "training", make_data(tmp_path / "data", 1))
    assert row.lost == 0, capsys.readouterr().out
    assert row.injected == row.survived == soak_kills.LEAST


@pytest.mark.slow
def test_killed_commands_leave_whole_files_and_can_be_started_again(tmp_path, capsys, monkeypatch):
    import soak_kills
    from soak_runs import make_data

    data = make_data(tmp_path / "data", 1)
    few = {name: job for name, job in soak_kills.commands(data).items() if name in ("segment", "submission")}
    monkeypatch.setattr(soak_kills, "commands", lambda data: few)
    rows = soak_kills.kill_commands(1, time.monotonic(), tmp_path / "commands", data)
    assert sum(row.lost for row in rows) == 0, capsys.readouterr().out
    assert sum(row.injected for row in rows) > 0


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line_and_loses_nothing(tmp_path, capsys, monkeypatch):
    import numpy as np
    import soak_full_disk
    from soak_runs import make_data

    monkeypatch.setattr(soak_full_disk, "ROUNDS", 1)
    data, rng = make_data(tmp_path / "data", 1), np.random.default_rng(0)
    rows = [soak_full_disk.fill_training(rng, 0.0, tmp_path / "training", data)]
    words, pattern = soak_full_disk.commands(data)["prepare"]
    rows.append(soak_full_disk.fill_command(rng, 0.0, tmp_path / "prepare", words, pattern))
    assert [(row.injected, row.lost) for row in rows] == [(1, 0), (1, 0)], capsys.readouterr().out


def test_a_part_that_is_lost_or_fails_shows_in_the_table_and_the_exit_status(capsys, monkeypatch):
    import soak

    class Part:
        @staticmethod
        def run(seed, minutes, folder):
            return [soak.Row("one", 3, 3 - seed, seed, f"{minutes:g} minutes in a folder: {folder.is_dir()}")]

    monkeypatch.setitem(sys.modules, "soak_kills", Part)
    assert soak.main(["--scale=0.5", "kills"]) == 0
    assert "| one | 3 | 3 | 0 | 4.5 minutes in a folder: True |" in capsys.readouterr().out
    assert soak.main(["--seed=1", "kills"]) == 1
    monkeypatch.setitem(sys.modules, "soak_kills", object())  # without `run`
    assert soak.main(["kills"]) == 1
    assert "the part itself failed: AttributeError" in capsys.readouterr().out
