"""Makes every notebook from its source beside it (NAME.py -> NAME.ipynb) and runs it in place."""

import sys
from pathlib import Path

import jupytext
import nbclient
import nbformat

HERE = Path(__file__).parent


def build(source: Path, execute: bool) -> None:
    """Write one notebook; without `execute` its outputs are empty."""
    notebook = jupytext.read(source)
    if execute:
        resources = {"metadata": {"path": str(HERE)}}
        nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=resources).execute()
    nbformat.write(notebook, source.with_suffix(".ipynb"))


if __name__ == "__main__":
    for path in sorted(HERE.glob("[0-9]*.py")):
        build(path, execute="--clear" not in sys.argv)
        print(path.with_suffix(".ipynb").name)
