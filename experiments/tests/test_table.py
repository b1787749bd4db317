"""The page of results: sections in their order, published and measured apart, no path of the machine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from plan import Setting
from summary import write_summary
from table import make_page
from vos_umec.errors import DataError
from vos_umec.metrics.results import Scores
from vos_umec.metrics.sequence import FIGURES

ROOT = Path(__file__).parents[2]
DAVIS = "/disk/of/this/machine/DAVIS"


def put(folder: Path, cell: str, seed: int, name: str, content: dict) -> None:
    (folder / cell / f"seed_{seed}").mkdir(parents=True, exist_ok=True)
    (folder / cell / f"seed_{seed}" / name).write_text(json.dumps(content))


def make_set(folder: Path, whole: dict[tuple[str, int], float], extra: tuple[str, ...] = ()) -> Setting:
    """A folder as `ablate.py` leaves it, by J&F of each cell and seed."""
    setting = Setting({"model": {}, "data": {}}, DAVIS, "val", extra, folder, "two_cores.yaml")
    for (cell, seed), value in whole.items():
        figures = {"J&F": value, "J": value, "F": value, "sequences": {"dog": value, "cat": value}}
        result = {
            **{"cell": cell, "seed": seed, "setting": setting.fingerprint, "training": "trainings/x"},
            **{"minutes": 10.0 + seed, "scores": {"umec": figures, "label_propagation": figures}},
        }
        put(folder, cell, seed, "result.json", result)
    write_summary(setting)
    return setting


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


def page_of(tmp_path: Path, *sections: dict[str, str]) -> str:
    (tmp_path / "page.yaml").write_text(yaml.safe_dump({"about": "My page.", "sections": list(sections)}))
    return make_page(tmp_path / "page.yaml")


def rows_of(section: str) -> list[list[str]]:
    return [[each.strip() for each in row.strip("|").split("|")] for row in section.splitlines() if row[:1] == "|"]


def sections_of(page: str) -> dict[str, str]:
    _, *parts = re.split(r"^### ", page, flags=re.MULTILINE)
    return {part.splitlines()[0]: part for part in parts}


def test_the_page_has_what_was_run_in_the_order_given(losses, scores, tmp_path):
    make_set(tmp_path / "rounds", {("4e_rounds_0", 0): 0.5, ("4e_rounds_0", 2): 0.5, ("4e_rounds_3", 0): 0.6})
    given = [
        {"title": "Losses", "source": "losses", "about": "What they do."},
        {"title": "The model", "source": "scores.json"},
        {"title": "Rounds", "source": str(tmp_path / "rounds")},
    ]
    page = page_of(tmp_path, *given)
    assert "My page." in page
    assert str(tmp_path) not in page
    assert DAVIS not in page
    sections = sections_of(page)
    assert list(sections)[3:] == ["Losses", "The model", "Rounds"]

    for text in ("What they do.", "`two_cores.yaml`", "`--data.root=ROOT --budget.minutes=10 --config CONFIG`"):
        assert text in sections["Losses"]
    for fact in ("cells: `4a_all`, `4a_both`", "scored on: 2 sequences of `val`", "seeds: 0, 1"):
        assert f"* {fact}\n" in sections["Losses"]
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


def test_what_is_published_stands_apart(tmp_path):
    page = page_of(tmp_path)
    assert page.index("## Published") < page.index("### YouTube-VOS val") < page.index("## Measured here")
    sections = sections_of(page.partition("\n## Measured")[0])
    assert list(sections) == ["DAVIS 2017 val", "DAVIS 2017 test-dev", "YouTube-VOS val"]
    val, test_dev, youtube = map(rows_of, sections.values())
    assert [len(rows) - 2 for rows in (val, test_dev, youtube)] == [21, 8, 9]
    assert ["UMEC", "self-supervised", "ResNet-50", "75.6"] in val
    assert ["UMEC", "self-supervised, but see below", "ResNet-18", "74.5"] in val
    assert ["STM", "supervised", "", "81.8"] in val
    assert ["UMEC", "self-supervised", "ResNet-18", "71.6"] in youtube


def test_of_several_settings_the_last_one_is_shown(losses, tmp_path):
    other = make_set(losses, {("4a_short", 5): 0.4}, ("--budget.minutes=1",))
    reason = {"cell": "4a_long", "seed": 5, "setting": other.fingerprint, "reason": f"no room; see {tmp_path}/log"}
    put(losses, "4a_long", 5, "failed.json", reason)
    section = sections_of(page_of(tmp_path, {"title": "Losses", "source": "losses"}))["Losses"]
    assert [row[0] for row in rows_of(section)[2:]] == ["4a_short"]
    assert "`--budget.minutes=1`" in section
    assert "* failed: `4a_long` with seed 5\n" in section
    assert str(tmp_path) not in section


def test_a_folder_that_does_not_say_what_was_run_is_refused(losses, tmp_path):
    given = {"title": "Losses", "source": "losses"}
    before = (losses / "setting.json").read_text()
    for broken in ("[1]", "{", '{"base": "a.yaml"}'):
        (losses / "setting.json").write_text(broken)
        with pytest.raises(DataError, match=r"losses has no setting\.json"):
            page_of(tmp_path, given)
    (losses / "setting.json").write_text(before.replace(json.loads(before)["fingerprint"], "other"))
    with pytest.raises(DataError, match=r"losses has no result .*two_cores\.yaml"):
        page_of(tmp_path, given)


def test_wrong_sections_are_refused(losses, scores, tmp_path):
    for section, words in (
        ({"title": "A"}, r"page\.yaml .*source"),
        ({"source": "losses"}, r"page\.yaml .*title"),
        ({"title": "A", "source": "no/runs"}, "no/runs is neither"),
    ):
        with pytest.raises(DataError, match=words):
            page_of(tmp_path, section)
    row = json.loads(scores.read_text())["objects"][0]
    for wrong in ("{", "[]", "{}", '{"objects": []}', json.dumps({"objects": [{**row, "J&F": None}]})):
        scores.write_text(wrong)
        with pytest.raises(DataError, match=r"scores\.json is neither"):
            page_of(tmp_path, {"title": "A", "source": "scores.json"})


def test_the_page_in_docs_is_what_the_script_writes(tmp_path):
    script, page = ROOT / "experiments" / "table.py", tmp_path / "results.md"
    subprocess.run([sys.executable, script, "--out", page], check=True, timeout=60)
    assert page.read_text() == (ROOT / "docs" / "results.md").read_text()
    page.write_text("old")
    command = [sys.executable, script, "no.yaml", "--out", page]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot read no.yaml")
    assert page.read_text() == "old"
