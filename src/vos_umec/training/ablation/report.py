"""What a set leaves behind: setting.json, table.md, table.csv, table.png, a line in experiments.md a run."""

import logging
from collections.abc import Sequence

from vos_umec.errors import MissingDependencyError
from vos_umec.io.atomic import atomic_path
from vos_umec.training.ablation.plan import Setting
from vos_umec.training.ablation.plot import plot
from vos_umec.training.ablation.record import write_record
from vos_umec.training.ablation.run import FAILED
from vos_umec.training.ablation.table import (
    Result,
    comma_separated,
    make_lines,
    markdown,
    readoutcomes,
)

log = logging.getLogger(__name__)

_HEAD = """| cell | seed | training | minutes | J&F | label propagation | J&F by sequence |
|---|---|---|---|---|---|---|
"""


def write_report(setting: Setting) -> None:
    """Write a setting and the table of all its results in its folder, and note runs that are new.

    Args:
        setting: The setting. Where matplotlib is missing, the log says so, and the picture is left out.
    """
    write_record(setting)
    results = readoutcomes(setting.out, setting.fingerprint)
    lines = make_lines(results, readoutcomes(setting.out, setting.fingerprint, FAILED))
    for name, text in (("table.md", markdown(lines)), ("table.csv", comma_separated(lines))):
        with atomic_path(setting.out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    try:
        plot(lines, setting.out / "table.png")
    except MissingDependencyError as error:
        log.warning("no table.png: %s", error)
    _note(setting, results)


def _note(setting: Setting, results: Sequence[Result]) -> None:
    """Append runs to experiments.md, each once, so that nothing that was tried is lost when it is tried anew."""
    path = setting.out / "experiments.md"
    noted = path.read_text(encoding="utf-8") if path.is_file() else ""
    new = [line for result in results if (line := _experiment(result)) not in noted]
    if new:
        with path.open("a", encoding="utf-8") as file:
            file.write(("" if noted else _HEAD) + "".join(new))


def _experiment(result: Result) -> str:
    umec, propagation = (result["scores"][method] for method in ("umec", "label_propagation"))
    sequences = ", ".join(f"{name} {100 * value:.1f}" for name, value in umec["sequences"].items())
    figures = f"{result['minutes']:.1f} | {100 * umec['J&F']:.1f} | {100 * propagation['J&F']:.1f}"
    return f"| {result['cell']} | {result['seed']} | {result['training']} | {figures} | {sequences} |\n"
