"""Makes every notebook from its source beside it (NAME.py -> NAME.ipynb) and runs it in place."""

import io
import os
import sys
import time
from base64 import b64decode, b64encode
from pathlib import Path

import jupytext
import nbclient
import nbformat
from PIL import Image

HERE = Path(__file__).parent
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # for the kernels, which may import torch before vos_umec
WIDGET = "application/vnd.jupyter.widget-view+json"
LARGE = 100_000
"""Characters of a PNG above which it is a picture of video, which a JPEG holds in a fifth of the space."""


def build(source: Path, execute: bool) -> None:
    """Write one notebook; without `execute` its outputs are empty."""
    notebook = jupytext.read(source)
    if execute:
        patience = {
            "timeout": 1200,
            "iopub_timeout": 60,
            "raise_on_iopub_timeout": True,
        }  # by default it loses outputs
        resources = {"metadata": {"path": str(HERE)}}
        nbclient.NotebookClient(notebook, kernel_name="python3", resources=resources, **patience).execute()
        tidy(notebook)
    nbformat.write(notebook, source.with_suffix(".ipynb"))


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leave what can be read without a kernel: no widgets, no times of execution, pictures of video as JPEG."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            data = output.get("data", {})
            data.pop(WIDGET, None)
            if output.output_type == "display_data" and not any(kind.startswith("image/") for kind in data):
                continue  # what is left of a progress bar
            if len(data.get("image/png", "")) > LARGE:
                data["image/jpeg"] = as_jpeg(data.pop("image/png"))
            kept.append(output)
        cell.outputs = kept


def as_jpeg(png: str) -> str:
    """A picture in base64 as a JPEG in base64."""
    file = io.BytesIO()
    Image.open(io.BytesIO(b64decode(png))).convert("RGB").save(file, "JPEG", quality=82, optimize=True)
    return b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    names = [word for word in sys.argv[1:] if not word.startswith("--")]
    for path in sorted(HERE.glob("[0-9]*.py")):
        if names and path.stem not in names:
            continue
        print(f"{path.stem}: running, which takes minutes", flush=True)
        start = time.monotonic()
        build(path, execute="--clear" not in sys.argv)
        size = path.with_suffix(".ipynb").stat().st_size
        print(f"{path.stem}.ipynb: {time.monotonic() - start:.0f} s, {size / 1000:.0f} kB")
