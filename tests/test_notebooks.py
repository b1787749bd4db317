"""Every notebook runs from its source at small settings, and the .ipynb beside it is made from that source."""

from pathlib import Path

import jupytext
import nbclient
import pytest

HERE = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(HERE.glob("[0-9]*.py"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_runs(source, tmp_path, monkeypatch):
    monkeypatch.setenv("VOS_UMEC_EPOCHS", "2")
    monkeypatch.setenv("VOS_UMEC_OUT", str(tmp_path))
    resources = {"metadata": {"path": str(HERE)}}
    nbclient.NotebookClient(
        jupytext.read(source), timeout=280, kernel_name="python3", resources=resources
    ).execute()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_is_its_source(source):
    def cells(path):
        return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]

    assert cells(source.with_suffix(".ipynb")) == cells(source), "run `make notebooks`"
