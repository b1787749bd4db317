"""Write one HTML page of a run: curves, pseudo masks, scores by sequence and over time, best and worst frames.

Example:
    vos-umec report runs/folder/version_0                    # writes runs/folder/version_0/report.html
    vos-umec report runs/demo --out demo.html
    vos-umec report scores.json                              # scores of `vos-umec evaluate --json`
"""

from pathlib import Path

from vos_umec.errors import DataError, first_sentence
from vos_umec.io.written import single_file
from vos_umec.report.page import render
from vos_umec.report.run_files import read_run


def run(run: Path, *, out: Path | None = None, overwrite: bool = False) -> None:
    """Write the page. It needs nothing beside it, and asks nothing of the network.

    Args:
        run: The folder of a run, that of a demo, a folder of scores, or a file of scores.
        out: The file to write; without it, report.html in RUN. A file that vos-umec did not write is never
            replaced.
        overwrite: Replace the file that OUT names, whoever wrote it.
    """
    path = out or (run / "report.html" if run.is_dir() else run.with_suffix(".html"))
    written = single_file(path, "--out", overwrite)
    try:
        page = render(read_run(run))
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # JSON of another shape
        raise DataError(
            f"{run} holds a file that is not as vos-umec writes it ({type(error).__name__}: "
            f"{first_sentence(error)}): run the command that wrote it again, or take it out of the folder"
        ) from error
    try:
        written.write(path, page.encode())
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror}; name a file in a folder of yours: --out"
        ) from error
    print(f"the report is in {path}: {path.stat().st_size / 2**20:.1f} MiB")
