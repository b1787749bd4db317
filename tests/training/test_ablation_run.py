"""A set of runs: finished ones are skipped, interrupted ones go on, failed ones are a line of the table."""

import fcntl
import json

import pytest
import torch
from ablation_toys import ROUNDS, make_runs, make_setting, scores, toy_command

from vos_umec.training.ablation import run as running
from vos_umec.training.ablation.plan import Run
from vos_umec.training.ablation.repeatable import RepeatableEpochs
from vos_umec.training.ablation.report import write_report


def rate(value: float):
    return {"model": {"class_path": "M", "init_args": {"rate": value}}}


@pytest.fixture
def scored(monkeypatch) -> list[str]:
    """Toy trainings, and scores at once; gives the names of the cells scored."""
    names: list[str] = []

    def score(run, device):
        names.append(run.cell)
        return scores(0.6 + 0.02 * run.seed)

    monkeypatch.setattr(running, "score", score)
    monkeypatch.setattr(Run, "fit_command", toy_command)
    return names


def run_all(runs) -> int:
    return running.run_set(runs, "cpu", lambda: write_report(runs[0].setting))


def test_one_training_serves_all_readouts_and_what_is_finished_is_skipped(tmp_path, scored):
    runs = make_runs(make_setting(tmp_path), {"all": {}, "rounds_0": ROUNDS})
    assert run_all(runs) == 0
    assert scored == ["all", "rounds_0"]
    (log,) = tmp_path.glob("out/trainings/*/log.txt")
    assert log.read_text() == "epoch after []\n"
    files = {name: (tmp_path / "out" / name).read_bytes() for name in ("table.md", "table.csv", "experiments.md")}

    assert run_all(runs) == 0
    assert scored == ["all", "rounds_0"]
    assert log.read_text() == "epoch after []\n"
    assert files == {name: (tmp_path / "out" / name).read_bytes() for name in files}
    assert files["experiments.md"].decode().count("| all | 0 |") == 1

    (tmp_path / "out/all/seed_0/result.json").unlink()  # killed between training and scoring
    assert run_all(runs) == 0
    assert scored[2:] == ["all"]
    assert log.read_text() == "epoch after []\n"


def test_a_changed_cell_is_run_again(tmp_path, scored):
    setting = make_setting(tmp_path)
    run_all(make_runs(setting, {"cell": rate(0.1)}))
    run_all(make_runs(setting, {"cell": rate(0.2)}))
    assert scored == ["cell", "cell"]
    assert len(list(tmp_path.glob("out/trainings/*"))) == 2
    assert (tmp_path / "out/experiments.md").read_text().count("| cell | 0 |") == 2  # what was tried stays noted


def test_a_failed_run_is_a_line_and_leaves_the_others_alone(tmp_path, scored):
    setting = make_setting(tmp_path)
    cells = {"bad": rate(-1.0), "bad_rounds": {**rate(-1.0)}, "killed": rate(2.0), "good": rate(0.1)}
    cells["bad_rounds"]["model"]["init_args"]["segmenter"] = {"rounds": 0}
    runs = make_runs(setting, cells)
    assert run_all(runs) == 3
    assert scored == ["good"]
    table = (tmp_path / "out/table.md").read_text()
    assert "| bad, seed 0 | failed: the rate is below 0; see" in table
    assert "| bad_rounds, seed 0 | failed: the rate is below 0; see" in table
    assert "| killed, seed 0 | failed: training was stopped by SIGKILL; see" in table
    assert "| good | 1 | 60.0 |" in table
    assert (runs[0].training / "log.txt").read_text().count("epoch") == 1  # not tried twice in one go

    assert run_all(runs) == 2  # the killed one goes on from its checkpoint; the bad one is as bad as before
    assert f"epoch after ['--ckpt_path', '{runs[2].checkpoint}']" in (runs[2].training / "log.txt").read_text()
    table = (tmp_path / "out/table.md").read_text()
    assert "| killed | 1 | 60.0 |" in table
    assert "SIGKILL" not in table


def test_a_training_that_another_process_is_at_is_left_alone(tmp_path, scored, monkeypatch):
    monkeypatch.setattr(running, "PATIENCE", 0.2)
    (run,) = make_runs(make_setting(tmp_path), {"all": {}})
    run.training.mkdir(parents=True)
    with (run.training / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run_all([run]) == 1
    assert "another process is at" in json.loads((run.folder / "failed.json").read_text())["reason"]
    assert run_all([run]) == 0


def test_a_score_that_fails_tells_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "fit_command", toy_command)
    (run,) = make_runs(make_setting(tmp_path), {"all": {}})
    assert run_all([run]) == 1  # the toy's checkpoint is none
    assert "is not a checkpoint" in (tmp_path / "out/table.md").read_text()


class Trainer:
    global_rank, current_epoch = 0, 0


def test_an_epoch_draws_the_same_whatever_came_before_it():
    draws = {}
    for seed, epochs in ((0, (0, 1, 2)), (0, (2,)), (1, (2,))):
        callback, trainer = RepeatableEpochs(seed), Trainer()
        for trainer.current_epoch in epochs:
            callback.on_train_epoch_start(trainer, None)
            draws[seed, epochs, trainer.current_epoch] = torch.rand(3).tolist()
    assert draws[0, (0, 1, 2), 2] == draws[0, (2,), 2] != draws[1, (2,), 2]
    assert draws[0, (0, 1, 2), 1] != draws[0, (0, 1, 2), 2]
