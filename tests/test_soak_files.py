"""The short form of the soak's parts on found video and hostile files, and the audit of `make lint`."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def test_mutated_video_ends_in_frames_or_in_one_error(tmp_path, monkeypatch, capsys) -> None:
    soak = load(ROOT / "benchmarks" / "soak_found_video.py", monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("VOS_UMEC_DATA", "")  # on a clip that is made
    monkeypatch.setattr(soak, "ROUND", 12)
    (row,) = soak.run(0, 0, tmp_path)
    assert (row.injected, row.lost) == (12, 0), capsys.readouterr().err
    assert "in frames" in row.figures


def test_a_wrong_answer_counts_as_lost(monkeypatch) -> None:
    soak = load(ROOT / "benchmarks" / "soak_found_video.py", monkeypatch)
    right = {"frames": 5, "counted": 5, "damaged": False, "seconds": 1.0, "memory": 100}
    assert soak._wrong(right) is None
    for change in ({"counted": 6}, {"counted": 4}, {"seconds": 21.0}, {"memory": 3000}):
        assert soak._wrong(right | change), change
    assert soak._wrong({"reason": "TypeError: 3"})
    assert soak._wrong({"reason": "no answer in 80 s"})
    assert soak._wrong({"reason": "the decoder crashed (exit code -11)"}) is None


def test_hostile_files_run_nothing_and_end_in_one_error(tmp_path, monkeypatch, capsys) -> None:
    soak = load(ROOT / "benchmarks" / "soak_hostile.py", monkeypatch)
    monkeypatch.setattr(sys, "path", list(sys.path))
    rows = soak.run(0, 0, tmp_path / "hostile")
    assert [row.lost for row in rows] == [0] * len(soak.ATTACKS), capsys.readouterr().err
    assert sum(row.injected for row in rows) == sum(map(len, soak.ATTACKS.values()))


def test_code_that_runs_is_noticed(tmp_path, monkeypatch) -> None:
    soak = load(ROOT / "benchmarks" / "soak_hostile.py", monkeypatch)
    attack = soak.pickle_that_runs_a_program
    monkeypatch.setattr(soak, "load", lambda path: (tmp_path / "outside").touch())
    monkeypatch.setattr(soak, "read_tensors", soak.load)
    monkeypatch.setattr(soak, "ATTACKS", {"model files": [attack]})
    (row,) = soak.run(0, 0, tmp_path)
    assert row.lost == 1


def test_the_audit_finds_a_planted_secret_and_says_when_it_cannot_audit(tmp_path, monkeypatch) -> None:
    pytest.importorskip("detect_secrets")
    audit = load(ROOT / ".ci" / "audit.py", monkeypatch)
    (tmp_path / "clean.py").write_text("digest = 'd41d8cd98f00b204e9800998ecf8427e'\n")
    (tmp_path / "key.py").write_text("x = 1\nkey = 'AKIA" + "IOSFODNN7EXAMPLE'\n")
    (found,) = audit.secrets([tmp_path / "clean.py", tmp_path / "key.py"])
    assert "key.py:2: AWS" in found
    monkeypatch.setattr(sys, "executable", "false")
    weak, reason = audit.known_weaknesses()
    assert weak == []
    assert reason


def test_every_tested_version_is_locked_with_a_hash(monkeypatch) -> None:
    audit = load(ROOT / ".ci" / "audit.py", monkeypatch)
    pinned = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    locked = audit.locked()
    assert {name: locked.get(name, "").partition("+")[0] for name, _ in pinned} == dict(pinned)
