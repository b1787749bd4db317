"""The benchmarks' own harness: what it measures and what it makes of it."""

import importlib.util
import json
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
import torch

from vos_umec.inference.segmenter import VideoSegmenter

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A module of the benchmarks' folder by name."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def by_name(name):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return by_name


@pytest.mark.parametrize("name", ["scores", "readout", "inference", "clips", "clustering", "training"])
def test_what_a_benchmark_measures_is_where_it_looks_for_it(load, name):
    if name == "clustering":
        pytest.importorskip("sklearn")  # of the bench extra
    module = load(name)
    for method in chain.from_iterable(getattr(module, "METHODS", {}).values()):
        assert callable(getattr(VideoSegmenter, method))


@pytest.mark.slow
def test_a_short_soak_of_long_video_loses_nothing(load, tmp_path):
    load("soak_row")
    rows = load("soak_long_video").run(seed=1, minutes=0.1, folder=tmp_path)
    assert len(rows) == 6
    assert not [row for row in rows if row.lost or row.survived != row.injected], rows


@pytest.mark.slow
@pytest.mark.timeout(600)  # seven processes import torch, on a machine that may be busy
def test_a_short_soak_of_processes_loses_nothing(load, tmp_path, monkeypatch):
    load("soak_row")
    soak = load("soak_processes")
    monkeypatch.setattr(soak, "WORLDS", (2,))
    rows = soak.run(seed=1, minutes=0.1, folder=tmp_path)
    assert len(rows) == 3
    assert not [row for row in rows if row.lost or row.survived != row.injected], rows


def test_ways_run_in_turn_and_are_checked(load):
    harness, calls = load("harness"), []
    ways = {"ours": lambda: calls.append("a") or 1, "plain": lambda: calls.append("b") or time.sleep(0.01) or 1}
    result = harness.compare("work", ways, check=lambda r: f"equal: {r['ours'] == r['plain']}", rounds=3)
    assert calls == ["a", "b"] * 4  # once for the memory, then three rounds
    assert result.checked == "equal: True"
    assert min(result.ratios("plain")) > 1
    assert "ours" in "\n".join(result.lines())


def test_a_failed_check_ends_the_comparison(load):
    def differ(results):
        raise ValueError("they differ")

    with pytest.raises(ValueError, match="they differ"):
        load("harness").compare("work", {"ours": int}, check=differ)


def test_peak_memory_sees_what_is_given_back():
    # In a process of its own: a large one has memory at hand that is not taken from the system anew.
    code = (
        "import numpy, time\nfrom harness import peak_memory\n"
        "with peak_memory() as peak:\n    held = numpy.ones(2**26, numpy.uint8); time.sleep(0.1); del held\n"
        "print(peak[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert 56 < float(done.stdout) < 80  # 64 MiB were held


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_exponents_are_found(load, power):
    sizes = [1, 2, 5, 10]
    assert load("harness").slope(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


def test_results_become_one_page(load, tmp_path):
    pytest.importorskip("vos_benchmark")  # of the bench extra, as all that the page names
    harness = load("harness")
    report = load("report")
    results = [
        harness.Comparison("sorting", "ours", {"ours": [1.0], "peer": [4.0]}, {"ours": 1, "peer": 2}, "equal"),
        harness.Curve("sorting", "points", [1, 2], [0.1, 0.2], [1, 2]),
        harness.Parts("a step", {"forward": 0.3, "backward": 0.7}),
    ]
    for place, result in enumerate(results):
        harness.save([result], tmp_path / f"{place}.json")
    report.write(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "**4.0** (4.0 to 4.0)" in page
    assert "**1.00**" in page
    assert "| backward | 700 ms | 70 % |" in page
    assert (tmp_path / "page" / "sorting-points.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_gpu_check_runs_on_a_cpu(tmp_path):
    command = [sys.executable, str(FOLDER / "gpu_check.py"), "--device", "cpu", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = json.loads((tmp_path / "gpu_check.json").read_text())["rows"]
    parts = {"equality", "clustering", "training", "processes", "inference_speed", "training_speed"}
    assert {row["part"] for row in rows} == parts
    assert "| equality |" in (tmp_path / "gpu_check.md").read_text()


def test_the_gpu_check_says_where_there_is_no_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run(
        [sys.executable, str(FOLDER / "gpu_check.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--device cpu --quick" in done.stderr


def test_a_missed_gate_is_named(load, tmp_path):
    report = load("gpu_check").Report(tmp_path, "a GPU", part="speed")
    report.add("read-out", "9 ms", "under 5 ms", holds=False)
    report.add("refresh", "3 s")
    page = (tmp_path / "gpu_check.md").read_text()
    assert "| speed | read-out | 9 ms | under 5 ms | **missed** |" in page
    assert "| speed | refresh | 3 s |  |  |" in page
