"""Write one HTML page of a run: curves, pseudo masks, scores by sequence and over time, best and worst frames.

Example:
    vos-umec report runs/folder/version_0                    # writes runs/folder/version_0/report.html
    vos-umec report runs/demo --out demo.html
    vos-umec report scores.json                              # scores of `vos-umec evaluate --json`
"""

from pathlib import Path

from vos_umec.errors import DataError
from vos_umec.io.atomic import atomic_path
from vos_umec.report.page import render
from vos_umec.report.run_files import read_run


def run(run: Path, *, out: Path | None = None) -> None:
    """Write the page. It needs nothing beside it, and asks nothing of the network.

    Args:
        run: The folder of a run, that of a demo, a folder of scores, or a file of scores.
        out: The file to write; without it, report.html in RUN.
    """
    page = render(read_run(run))
    path = out or (run / "report.html" if run.is_dir() else run.with_suffix(".html"))
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror}; name a file in a folder of yours: --out"
        ) from error
    print(f"the report is in {path}: {path.stat().st_size / 2**20:.1f} MiB")
