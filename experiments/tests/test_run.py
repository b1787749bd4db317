"""A set of runs: finished ones are skipped, interrupted ones resume, a failed one is a row of the table."""

import fcntl
import json

import numpy as np
import pytest
import torch
from toys import ROUNDS, make_runs, make_setting, scores, toy_command

import run as running
import worker
from plan import Run
from worker import RepeatableEpochs


def rate(value: float):
    return {"model": {"class_path": "M", "init_args": {"rate": value}}}


@pytest.fixture
def scored(monkeypatch) -> list[str]:
    """Toy trainings, and scores at once; gives the names of the cells that were scored."""
    names: list[str] = []

    def score(run, device):
        names.append(run.cell)
        return scores(0.6 + 0.02 * run.seed)

    monkeypatch.setattr(running, "score", score)
    monkeypatch.setattr(Run, "fit_command", toy_command)
    return names


def test_one_training_serves_all_its_cells_and_what_is_finished_is_skipped(tmp_path, scored):
    runs = make_runs(make_setting(tmp_path), {"all": {}, "rounds_0": ROUNDS})
    assert running.run_set(runs, "cpu") == 0
    assert scored == ["all", "rounds_0"]
    (log,) = tmp_path.glob("out/trainings/*/log.txt")
    assert log.read_text() == "epoch after []\n"
    files = {name: (tmp_path / "out" / name).read_bytes() for name in ("table.md", "table.csv", "log.md")}

    assert running.run_set(runs, "cpu") == 0
    assert scored == ["all", "rounds_0"]
    assert log.read_text() == "epoch after []\n"
    assert files == {name: (tmp_path / "out" / name).read_bytes() for name in files}

    (tmp_path / "out/all/seed_0/result.json").unlink()  # killed between training and scoring
    assert running.run_set(runs, "cpu") == 0
    assert scored[2:] == ["all"]
    assert log.read_text() == "epoch after []\n"


def test_a_changed_cell_is_run_again(tmp_path, scored):
    setting = make_setting(tmp_path)
    running.run_set(make_runs(setting, {"cell": rate(0.1)}), "cpu")
    running.run_set(make_runs(setting, {"cell": rate(0.2)}), "cpu")
    assert scored == ["cell", "cell"]
    assert len(list(tmp_path.glob("out/trainings/*"))) == 2
    assert (tmp_path / "out/log.md").read_text().count("| cell | 0 |") == 2  # what was tried stays logged


def test_a_failed_run_is_a_row_and_leaves_the_others_alone(tmp_path, scored):
    bad_rounds = {
        "model": {"class_path": "M", "init_args": {"rate": -1.0, "evaluation": {"segmenter": {"rounds": 0}}}}
    }
    cells = {"bad": rate(-1.0), "bad_rounds": bad_rounds, "killed": rate(2.0), "good": rate(0.1)}
    runs = make_runs(make_setting(tmp_path), cells)
    assert running.run_set(runs, "cpu") == 3
    assert scored == ["good"]
    table = (tmp_path / "out/table.md").read_text()
    for cell, reason in (("bad", "rate is below 0"), ("bad_rounds", "rate is below 0"), ("killed", "SIGKILL")):
        (row,) = (line for line in table.splitlines() if line.startswith(f"| {cell}, seed 0 |"))
        assert "failed: " in row
        assert reason in row
    assert "| good | 1 | 60.0 |" in table
    assert (runs[0].training / "log.txt").read_text().count("epoch") == 1  # not tried twice in one go

    assert running.run_set(runs, "cpu") == 2  # the killed one resumes, the bad one is as bad as before
    assert f"epoch after ['--ckpt_path', '{runs[2].checkpoint}']" in (runs[2].training / "log.txt").read_text()
    table = (tmp_path / "out/table.md").read_text()
    assert "| killed | 1 | 60.0 |" in table
    assert "SIGKILL" not in table


def test_a_training_of_another_process_is_left_alone(tmp_path, scored, monkeypatch):
    monkeypatch.setattr(running, "PATIENCE", 0.2)
    (run,) = make_runs(make_setting(tmp_path), {"all": {}})
    run.training.mkdir(parents=True)
    with (run.training / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert running.run_set([run], "cpu") == 1
    assert "another process" in json.loads((run.folder / "failed.json").read_text())["reason"]
    assert running.run_set([run], "cpu") == 0


def test_a_score_that_fails_gives_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "fit_command", toy_command)
    (run,) = make_runs(make_setting(tmp_path), {"all": {}})
    assert running.run_set([run], "cpu") == 1  # the checkpoint of the toy is none
    assert "is no checkpoint" in (tmp_path / "out/table.md").read_text()


class Trainer:
    global_rank, current_epoch = 0, 0


def test_the_draws_of_an_epoch_do_not_depend_on_those_before_it():
    draws = {}
    for seed, epochs in ((0, (0, 1, 2)), (0, (2,)), (1, (2,))):
        callback, trainer = RepeatableEpochs(seed), Trainer()
        for trainer.current_epoch in epochs:
            callback.on_train_epoch_start(trainer, None)
            draws[seed, epochs, trainer.current_epoch] = torch.rand(3).tolist()
    assert draws[0, (0, 1, 2), 2] == draws[0, (2,), 2] != draws[1, (2,), 2]
    assert draws[0, (0, 1, 2), 1] != draws[0, (0, 1, 2), 2]


class SlowSource(list):
    def read(self, indices):
        worker.time.sleep(0.05)
        return np.stack([self[i] for i in indices])


def test_the_speed_is_that_of_segmenting_alone(monkeypatch):
    """A clock that only steps of the segmenter move: 0.5 s with a prompt, 0.1 s without."""
    clock, seen = [0.0], []

    class Engine:
        @classmethod
        def from_protocol(cls, network, **settings):
            return cls()

        def reset(self):
            seen.append("reset")

        def step(self, frame, mask):
            seen.append(int(frame[0, 0, 0]))
            clock[0] += 0.1 if mask is None else 0.5

    class Sequence:
        def __init__(self, first, frames):
            self.frames = [np.full((4, 4, 3), first + t, np.uint8) for t in range(frames)]

        def source(self):
            return SlowSource(self.frames)

        def prompt_masks(self):
            return {0: np.ones((4, 4), np.uint8)}

    monkeypatch.setattr(worker, "VideoSegmenter", Engine)
    monkeypatch.setattr(worker.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(worker, "_TIMED_FRAMES", 7)
    speed = worker.measure_speed(None, {}, [Sequence(0, 5), Sequence(10, 3), Sequence(20, 3)])
    assert speed == pytest.approx(8 / (2 * 0.5 + 6 * 0.1))
    assert seen == [0, 1, 2, "reset", 0, 1, 2, 3, 4, "reset", 10, 11, 12]  # the third one is not needed
