"""The table of a set as a picture."""

import importlib
from collections.abc import Sequence
from pathlib import Path

from vos_umec.errors import MissingDependencyError
from vos_umec.io.atomic import atomic_path
from vos_umec.training.ablation.table import METHODS, Line


def plot(lines: Sequence[Line], path: Path) -> None:
    """J&F of each cell: the whole model and label propagation with their spread, and the paper's figure.

    Args:
        lines: What `make_lines` gave; cells without a result are left out.
        path: PNG file to write.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    try:
        figure_module = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingDependencyError("matplotlib is not installed; pip install 'vos-umec[plots]'") from error
    shown = [line for line in lines if line.seeds]
    places = range(len(shown))
    figure = figure_module.Figure(figsize=(7, 1.2 + 0.35 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for (method, title), marker, shift in zip(METHODS.items(), "os", (-0.12, 0.12), strict=True):
        spreads = [line.figures[method, "J&F"] for line in shown]
        axes.errorbar(
            [spread.mean for spread in spreads],
            [place + shift for place in places],
            xerr=[spread.deviation or 0.0 for spread in spreads],
            fmt=marker,
            capsize=3,
            label=title,
        )
    reported = [(line.paper, place) for line, place in zip(shown, places, strict=True) if line.paper is not None]
    if reported:
        axes.plot(*zip(*reported, strict=True), "x", color="grey", label="the paper, full scale")
    axes.set_yticks(list(places), [f"{line.cell} (n={len(line.seeds)})" for line in shown])
    axes.invert_yaxis()  # the first cell on top
    axes.set_xlabel("J&F, per cent")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
