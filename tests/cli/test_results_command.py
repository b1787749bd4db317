"""`vos-umec results` as people call it: sections in their order, errors of one line, nothing half written."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vos_umec.cli.main import main
from vos_umec.metrics.results import Scores
from vos_umec.metrics.sequence import FIGURES
from vos_umec.training.ablation.plan import Setting
from vos_umec.training.ablation.report import write_report

DAVIS = "/disk/of/this/machine/DAVIS"


def make_set(folder: Path, whole: dict[tuple[str, int], float], extra: tuple[str, ...] = ()) -> Setting:
    """A folder as `ablate` leaves it, by J&F of each cell and seed."""
    setting = Setting({"model": {}, "data": {}}, DAVIS, "val", extra, folder, "two_cores.yaml")
    for (cell, seed), value in whole.items():
        figures = {"J&F": value, "J": value, "F": value, "sequences": {"dog": value, "cat": value}}
        result = {
            **{"cell": cell, "seed": seed, "setting": setting.fingerprint, "training": "trainings/x"},
            **{"minutes": 10.0 + seed, "scores": {"umec": figures, "label_propagation": figures}},
        }
        put(folder, cell, seed, "result.json", result)
    write_report(setting)
    return setting


def put(folder: Path, cell: str, seed: int, name: str, content: dict) -> None:
    (folder / cell / f"seed_{seed}").mkdir(parents=True, exist_ok=True)
    (folder / cell / f"seed_{seed}" / name).write_text(json.dumps(content))


@pytest.fixture
def losses(tmp_path) -> Path:
    extra = (f"--data.root={tmp_path}/copy", "--budget.minutes=10", "--config", "../mine/other.yaml")
    whole = {("4a_all", 0): 0.70, ("4a_all", 1): 0.72, ("4a_both", 0): 0.65, ("4a_both", 1): 0.65}
    make_set(tmp_path / "losses", whole, extra)
    return tmp_path / "losses"


@pytest.fixture
def scores(tmp_path) -> Path:
    rows = [
        {"sequence": "dog", "object": 1, **{name: (10 + i) / 100 for i, name in enumerate(FIGURES)}},
        {"sequence": "dog", "object": 2, **{name: (30 + i) / 100 for i, name in enumerate(FIGURES)}},
    ]
    (tmp_path / "scores.json").write_text(Scores(rows).to_json())
    return tmp_path / "scores.json"


def rows_of(section: str) -> list[list[str]]:
    return [[each.strip() for each in row.strip("|").split("|")] for row in section.splitlines() if row[:1] == "|"]


def sections_of(page: str) -> dict[str, str]:
    _, *parts = re.split(r"^### ", page, flags=re.MULTILINE)
    return {part.splitlines()[0]: part for part in parts}


def test_the_page_has_what_was_run_in_the_order_given(losses, scores, tmp_path):
    make_set(tmp_path / "rounds", {("4e_rounds_0", 0): 0.5, ("4e_rounds_0", 2): 0.5, ("4e_rounds_3", 0): 0.6})
    out = tmp_path / "docs" / "results.md"
    given = ["--set", f"Losses={losses}", "--scores", f"The model={scores}", "--set", f"Rounds={tmp_path}/rounds"]
    assert main(["results", "--out", str(out), *given]) == 0
    page = out.read_text()
    assert "Written by `vos-umec results" in page.splitlines()[2]
    assert str(tmp_path) not in page
    assert DAVIS not in page
    sections = sections_of(page)
    assert list(sections)[3:] == ["Losses", "The model", "Rounds"]

    assert "`two_cores.yaml`" in sections["Losses"]
    assert "`--data.root=ROOT --budget.minutes=10 --config CONFIG`" in sections["Losses"]
    assert "* cells: `4a_all`, `4a_both`\n" in sections["Losses"]
    assert "* scored on: 2 sequences of `val`\n" in sections["Losses"]
    assert "* seeds: 0, 1\n" in sections["Losses"]
    assert "* minutes of training: 10.5, mean of 4 runs\n" in sections["Losses"]
    head, _, everything, _ = rows_of(sections["Losses"])
    row = dict(zip(head, everything, strict=True))
    assert (row["cell"], row["whole model, J&F"], row["paper's J&F"]) == ("4a_all", "71.0 ± 1.4", "74.5")

    assert "* seeds: 0, 2 of `4e_rounds_0`; 0 of `4e_rounds_3`\n" in sections["Rounds"]
    assert "* further arguments of `vos-umec fit`: none\n" in sections["Rounds"]

    assert rows_of(sections["The model"]) == [
        ["sequence", "object", *FIGURES],
        ["---"] * 9,
        ["dog", "1", *[f"{10 + i}.0" for i in range(7)]],
        ["dog", "2", *[f"{30 + i}.0" for i in range(7)]],
        ["**all**", "2", *[f"{20 + i}.0" for i in range(7)]],
    ]


def test_what_is_published_is_marked(losses, tmp_path):
    assert main(["results", "--out", str(tmp_path / "page.md"), "--set", f"Losses={losses}"]) == 0
    page = (tmp_path / "page.md").read_text()
    assert page.index("## Published") < page.index("## Measured here, on small machines")
    sections = sections_of(page)
    assert list(sections)[:3] == ["DAVIS 2017 val", "DAVIS 2017 test-dev", "YouTube-VOS val"]
    val, test_dev, youtube = (rows_of(sections[name].partition("\n## ")[0]) for name in list(sections)[:3])
    assert [len(rows) - 2 for rows in (val, test_dev, youtube)] == [21, 8, 9]
    assert ["UMEC", "self-supervised", "ResNet-50", "75.6"] in val
    assert ["STM", "supervised", "", "81.8"] in val
    assert ["DINO", "self-supervised", "ViT-B/8", "71.4"] in val
    assert ["RGMP", "supervised", "", "52.9"] in test_dev
    assert ["UMEC", "self-supervised", "ResNet-18", "71.6"] in youtube


def test_of_several_settings_the_last_one_is_shown(losses, tmp_path):
    other = make_set(losses, {("4a_short", 5): 0.4}, ("--budget.minutes=1",))
    reason = {"cell": "4a_long", "seed": 5, "setting": other.fingerprint, "reason": f"no room; see {tmp_path}/log"}
    put(losses, "4a_long", 5, "failed.json", reason)
    assert main(["results", "--out", str(tmp_path / "page.md"), "--set", f"Losses={losses}"]) == 0
    section = sections_of((tmp_path / "page.md").read_text())["Losses"]
    assert [row[0] for row in rows_of(section)[2:]] == ["4a_short"]
    assert "`--budget.minutes=1`" in section
    assert "* failed: `4a_long` with seed 5\n" in section
    assert str(tmp_path) not in section


def told(arguments: list[str], tmp_path: Path, capsys) -> str:
    """The one line of an error, after which there is no page."""
    capsys.readouterr()
    assert main(["results", "--out", str(tmp_path / "page.md"), *arguments]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert not (tmp_path / "page.md").exists()
    return line


def test_a_folder_without_its_setting_says_how_to_get_one(losses, tmp_path, capsys):
    before = (losses / "setting.json").read_text()
    for broken in ("[1]", "{", '{"base": "a.yaml"}'):
        (losses / "setting.json").write_text(broken)
        assert "run the same `vos-umec ablate` command again" in told(["--set", f"A={losses}"], tmp_path, capsys)
    (losses / "setting.json").unlink()
    line = told(["--set", f"A={losses}"], tmp_path, capsys)
    assert "has no setting.json" in line
    assert "run the same `vos-umec ablate` command again" in line
    (losses / "setting.json").write_text(before.replace(json.loads(before)["fingerprint"], "other"))
    assert "none of what was run there last (two_cores.yaml" in told(["--set", f"A={losses}"], tmp_path, capsys)


def test_errors_are_one_line(losses, scores, tmp_path, capsys):
    assert "nothing was measured" in told([], tmp_path, capsys)
    assert "--set runs: expected TITLE=FOLDER" in told(["--set", "runs"], tmp_path, capsys)
    assert "--set =runs: expected TITLE=FOLDER" in told(["--set", "=runs"], tmp_path, capsys)
    assert "--scores A=: expected TITLE=FILE.json" in told(["--scores", "A="], tmp_path, capsys)
    assert "no folder no/runs" in told(["--set", "A=no/runs"], tmp_path, capsys)
    (tmp_path / "empty").mkdir()
    assert "has no results" in told(["--set", f"A={tmp_path / 'empty'}"], tmp_path, capsys)
    assert "cannot read no/scores.json" in told(["--scores", "A=no/scores.json"], tmp_path, capsys)
    row = json.loads(scores.read_text())["objects"][0]
    for wrong in ("{", "[]", "{}", '{"objects": []}', json.dumps({"objects": [{**row, "J&F": None}]})):
        scores.write_text(wrong)
        assert "is no score file" in told(["--set", f"A={losses}", "--scores", f"B={scores}"], tmp_path, capsys)


def test_a_page_that_cannot_be_written_is_told(losses, tmp_path, capsys):
    (tmp_path / "page.md").mkdir()
    assert main(["results", "--out", str(tmp_path / "page.md"), "--set", f"A={losses}"]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert not list(tmp_path.glob(".page.md*"))


def test_an_error_leaves_the_old_page(losses, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("old")
    assert main(["results", "--out", str(page), "--set", f"A={losses}", "B=no/runs"]) == 1
    assert page.read_text() == "old"


def test_it_starts_without_torch():
    code = "import sys; from vos_umec.cli.main import main; main(['results', '--out', 'no', '--set', 'A=no/runs'])"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20, capture_output=True)


def test_names_and_places_do_not_change_the_fingerprint(tmp_path):
    """Sets on disk stay readable: of this setting the fingerprint before bases had names."""
    setting = Setting({"model": {}, "data": {}}, "davis", "val", ("--a=1",), tmp_path, "base.yaml")
    assert setting.fingerprint == "8027fa6b4459"
    assert replace(setting, base_name="other.yaml", out=tmp_path / "b").fingerprint == setting.fingerprint
