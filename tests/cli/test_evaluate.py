"""`vos-umec evaluate` on perfect results."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli.evaluate import run
from vos_umec.cli.main import main
from vos_umec.errors import ConfigError, DataError
from vos_umec.io.written import RECORD
from vos_umec.metrics.results import evaluate


@pytest.fixture
def folders(tmp_path):
    """A flat DAVIS root of one long-named sequence, and perfect results."""
    name = "a-sequence-with-quite-a-long-name-indeed"
    root, results = tmp_path / "davis", tmp_path / "results"
    ids = np.zeros((24, 32), np.uint8)
    ids[4:14, 5:15], ids[15:20, 20:30] = 1, 2
    for t in range(5):
        for path in (root / "Annotations", results):
            (path / name).mkdir(parents=True, exist_ok=True)
            image = Image.new("P", (32, 24))
            image.putdata(ids.ravel().tolist())
            image.putpalette(list(range(256)) * 3)
            image.save(path / name / f"{t:05d}.png")
        (root / "JPEGImages" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24)).save(root / "JPEGImages" / name / f"{t:05d}.jpg")
    return root, results, name


def test_prints_a_table_and_writes_json(folders, tmp_path, capsys):
    root, results, name = folders
    run(results, root=root, dataset="davis17", json=tmp_path / "scores.json")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    header = ["sequence", "object", "J&F", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    figures = ["100.0", "100.0", "100.0", "0.0", "100.0", "100.0", "0.0"]
    words = [[word for word in line if word.isascii()] for line in lines]
    assert header in words
    for label in ([name, "1"], [name, "2"], ["all", "2", "objects"]):
        assert [*label, *figures] in words
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert list(scores) == [*header[2:], "about", "objects", "curves"]
    assert scores["J&F"] == 1
    assert [list(row) for row in scores["objects"]] == [header, header]
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "davis", "results", "scores.json"]


def test_scores_replace_scores_and_no_file_of_somebody_else(folders, tmp_path, capsys):
    root, results, _ = folders
    words = ["evaluate", str(results), "--root", str(root), "--json", str(tmp_path / "scores.json")]
    assert main(words) == main(words) == 0
    (tmp_path / "scores.json").write_text("mine")
    assert main(words) == 1
    assert (tmp_path / "scores.json").read_text() == "mine"
    assert "choose another --json, or give --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert "J&F" in (tmp_path / "scores.json").read_text()


def test_no_place_for_a_file_is_one_clear_line(folders, tmp_path, capsys):
    root, results, _ = folders
    words = ["evaluate", str(results), "--root", str(root)]
    for given, told in (
        (["--json", ""], "--json is empty; give a path"),
        (["--json="], "--json is empty; give a path"),
        (["--json", str(tmp_path)], f"--json {tmp_path} is a folder; name a file"),
    ):
        assert main([*words, *given]) == 1
        assert capsys.readouterr().err.splitlines() == [f"vos-umec: error: {told}"]


def test_what_is_no_path_is_one_clear_error_in_python(folders):
    root, results, _ = folders
    for given in ((None, root), (results, b"davis")):
        with pytest.raises(ConfigError, match=r"is the path of a folder; found (NoneType|bytes)"):
            evaluate(*given)


def test_json_that_cannot_be_written(folders, tmp_path):
    root, results, _ = folders
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"scores\.json: "):
        run(results, root=root, json=tmp_path / "file" / "scores.json")


def test_missing_data_is_one_clear_error(folders, tmp_path):
    root, results, _ = folders
    with pytest.raises(DataError, match="/absent"):
        run(tmp_path / "absent", root=root)
    with pytest.raises(DataError, match="absent/JPEGImages"):
        run(results, root=tmp_path / "absent")


def test_workers_are_a_number_of_processes(folders):
    root, results, _ = folders
    assert main(["evaluate", str(results), "--root", str(root), "--workers", "1"]) == 0
    with pytest.raises(ConfigError, match="workers is 0"):
        run(results, root=root, workers=0)


def test_needs_no_torch(folders):
    root, results, _ = folders
    program = (
        "import sys; from vos_umec.cli.main import main; main(['evaluate', *sys.argv[1:]]);"
        "sys.exit(' '.join({'torch', 'torchmetrics', 'decord', 'av', 'kornia'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(results), "--root", str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "100.0" in done.stdout
