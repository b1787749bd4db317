"""A plot of J and F over the horizon, with matplotlib where it is installed."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from vos_umec.io.atomic import atomic_path
from vos_umec.viz.by_product import ByProduct

log = logging.getLogger(__name__)


def save_horizon_plot(
    path: Path,
    places: Sequence[str],
    joined: int,
    means: Mapping[str, Mapping[str, Sequence[float]]],
    differences: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    baseline: str,
) -> Path | None:
    """Draw a column for each measure: above its means by method, below the differences from the baseline.

    Args:
        path: Where to, a PNG.
        places: What stands at the horizontal axis, a text for each horizon.
        joined: The first so many horizons are joined by a line; the others stand apart.
        means: By measure and method, a figure in per cent for each horizon.
        differences: By measure and method, (difference, standard error) in points for each horizon.
        baseline: Name of the method that the differences are from.

    Returns:
        The file; None, with a warning, if matplotlib is not installed or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no %s: matplotlib is not installed; pip install 'vos-umec[plots]'", path.name)
        return None
    figure = Figure(figsize=(5.5 * len(means), 7), layout="constrained")
    grid = figure.subplots(2, len(means), sharex=True, sharey="row", squeeze=False)
    for measure, (above, below) in zip(means, grid.T, strict=True):
        colors = {method: f"C{number}" for number, method in enumerate(means[measure])}
        for method, figures in means[measure].items():
            above.plot(range(joined), figures[:joined], "o-", color=colors[method], label=method)
            above.plot(range(joined, len(places)), figures[joined:], "o", color=colors[method])
        below.axhline(0, color=colors[baseline], linewidth=1)
        for number, (method, pairs) in enumerate(differences[measure].items()):
            shift = 0.08 * (number - (len(differences[measure]) - 1) / 2)  # error bars side by side
            for part, line in ((slice(joined), "o-"), (slice(joined, None), "o")):
                x = [place + shift for place in range(len(places))[part]]
                y, error = [pair[0] for pair in pairs[part]], [pair[1] for pair in pairs[part]]
                below.errorbar(x, y, yerr=error, fmt=line, capsize=3, color=colors[method])
        above.set_title(measure)
        above.set_ylabel(f"{measure}, per cent")
        below.set_ylabel(f"{measure} minus that of {baseline}, points")
        below.set_xticks(range(len(places)), places)
        below.set_xlabel("frames after the true masks; n pairs of object and start")
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.tick_params(labelleft=True)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize="small")
    with ByProduct(path), atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
        return path
    return None
