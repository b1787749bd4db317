"""Every notebook runs from its source at small settings, and the .ipynb beside it is made from that source."""

import re
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

HERE = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(HERE.glob("[0-9]*.py"))
WIDGET = "application/vnd.jupyter.widget-view+json"
each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all notebooks, which imports torch once."""
    folder = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOS_UMEC_SMALL", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait for each other
        manager, client = start_new_kernel(startup_timeout=100, cwd=str(HERE))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@each_source
def test_notebook_runs(source, kernel):
    manager, client = kernel
    notebook = jupytext.read(source)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))  # the names of the notebook before
    runner = nbclient.NotebookClient(notebook, km=manager, timeout=250, iopub_timeout=60)
    runner.kc = client
    with runner.setup_kernel(cleanup_kc=False):
        for number, cell in enumerate(notebook.cells):
            runner.execute_cell(cell, number)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [
        o.text for o in outputs if o.output_type == "stream" and o.name == "stderr" and "Warning" in o.text
    ] == []
    pictures = [o for o in outputs if any(kind.startswith("image/") for kind in o.get("data", {}))]
    captions = re.findall(
        r"^\*\*Figure (\d+)\.\*\*", "\n".join(cell.source for cell in notebook.cells), re.MULTILINE
    )
    assert captions == [str(n) for n in range(1, len(pictures) + 1)]


@each_source
def test_notebook_is_its_source(source):
    def cells(path):
        return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]

    assert cells(source.with_suffix(".ipynb")) == cells(source), "run `make notebooks`"


@each_source
def test_notebook_can_be_read_without_a_kernel(source):
    """Outputs are there, small, without widgets, errors, warnings or paths of the machine that made them."""
    path = source.with_suffix(".ipynb")
    text = path.read_text(encoding="utf-8")
    assert len(text) < 900_000
    for sign in (str(Path.home()), str(HERE.parent), "/tmp/", "/site-packages", WIDGET):
        assert sign not in text
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(cell.execution_count for cell in cells), "run `make notebooks`"
    assert {output.output_type for output in outputs} <= {"display_data", "execute_result"}
    assert sum(any(kind.startswith("image/") for kind in output.data) for output in outputs) >= 2


def test_all_notebooks_together_are_small():
    assert sum(path.stat().st_size for path in HERE.glob("*.ipynb")) < 3_000_000


@each_source
def test_notebook_imports_no_deeper_than_a_room(source):
    imported = re.findall(r"^\s*(?:from|import) (vos_umec[\w.]*)", source.read_text(encoding="utf-8"), re.MULTILINE)
    assert imported
    assert [name for name in imported if name.count(".") > 1] == []
