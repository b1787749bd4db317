"""J and F by horizon, so many frames after the true masks: means, differences of methods, table, JSON, plot."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from vos_umec.metrics.jf import boundary_f, jaccard
from vos_umec.viz.horizon_plot import save_horizon_plot

HORIZONS = (1, 4, 8, 12, 24)
END = "end"
"""The horizon of the last annotated frame, which is counted from the first start alone."""
MEASURES = ("J&F", "J", "F")

HorizonRow = dict[str, str | int | float]
"""One object in one frame: `sequence`, `object`, `start` (the frame whose true masks were given), `method`,
`horizon` (frames after the start, or "end"), `frame` (the one that is scored) and the `MEASURES` as fractions."""

_Pair = tuple[str, int, int]  # sequence, object, start


class Difference(NamedTuple):
    """How much higher one method is than another on the same objects, starts and horizon, as fractions.

    Attributes:
        mean: Mean over the pairs of object and start.
        error: Standard error of that mean, as if the pairs were independent; those of one sequence are not, so it
            is rather too small. None with fewer than two pairs.
        pairs: Their number.
        above: On how many of them the difference is above 0.
    """

    mean: float
    error: float | None
    pairs: int
    above: int


@dataclass(frozen=True)
class HorizonScores:
    """Scores of several methods by horizon, of which all others are compared with the first.

    Args:
        rows: One for each object, start, method and horizon. Rows of several measurements may be joined, if their
            methods have different names.

    Example:
        >>> place = {"sequence": "dog", "object": 1, "start": 0, "horizon": 4, "frame": 4}
        >>> scores = HorizonScores([
        ...     {**place, "method": "label_propagation", "J&F": 0.75, "J": 0.75, "F": 0.75},
        ...     {**place, "method": "umec", "J&F": 0.8125, "J": 0.875, "F": 0.75},
        ... ])
        >>> scores.mean("umec", 4, "J"), scores.difference("umec", 4, "J")
        (0.875, Difference(mean=0.125, error=None, pairs=1, above=1))
    """

    rows: list[HorizonRow]

    @property
    def methods(self) -> list[str]:
        """The methods in the order of the rows; the first is the one that the others are compared with."""
        return list(dict.fromkeys(str(row["method"]) for row in self.rows))

    @property
    def horizons(self) -> list[int | str]:
        """The horizons that have rows, in ascending order, "end" last."""
        found = {row["horizon"] for row in self.rows}
        ends: list[int | str] = [END] if END in found else []
        return [*sorted(int(horizon) for horizon in found - {END}), *ends]

    def values(self, method: str, horizon: int | str, measure: str) -> dict[_Pair, float]:
        """One measure by (sequence, object, start)."""
        return {
            (str(row["sequence"]), int(row["object"]), int(row["start"])): float(row[measure])
            for row in self.rows
            if row["method"] == method and row["horizon"] == horizon
        }

    def mean(self, method: str, horizon: int | str, measure: str) -> float:
        """Mean of one measure over objects of all sequences and starts; NaN where there are none."""
        found = list(self.values(method, horizon, measure).values())
        return float(np.mean(found)) if found else float("nan")

    def difference(self, method: str, horizon: int | str, measure: str) -> Difference:
        """One measure of a method minus that of the first method, over what both have."""
        own = self.values(method, horizon, measure)
        other = self.values(self.methods[0], horizon, measure)
        found = np.array([own[pair] - other[pair] for pair in own if pair in other])
        mean = float(found.mean()) if len(found) else float("nan")
        error = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else None
        return Difference(mean, error, len(found), int((found > 0).sum()))

    def summary(self) -> list[dict[str, Any]]:
        """For each horizon and method the number of pairs, the means, and the differences from the first method.

        Returns:
            Mappings with `horizon`, `method`, `pairs`, the `MEASURES`, and, but for the first method, `minus` (its
            name) and `difference`, a mapping from each measure to the fields of a `Difference`.
        """
        lines: list[dict[str, Any]] = []
        for horizon in self.horizons:
            for method in self.methods:
                pairs = len(self.values(method, horizon, "J"))
                if not pairs:
                    continue
                means = {measure: self.mean(method, horizon, measure) for measure in MEASURES}
                lines.append({"horizon": horizon, "method": method, "pairs": pairs, **means})
                if method != self.methods[0]:
                    compared = {m: self.difference(method, horizon, m)._asdict() for m in MEASURES}
                    lines[-1] |= {"minus": self.methods[0], "difference": compared}
        return lines

    def table(self) -> Table:
        """The summary in per cent: a section for each horizon, a line for each method."""
        first = _plain(self.methods[0]) if self.rows else ""
        caption = f"per cent; minus that of {first} in points ± standard error; above it on so many pairs"
        table = Table("frames after", "pairs", "method", caption=caption, caption_justify="left")
        for name in (*MEASURES, *(f"{measure} minus" for measure in MEASURES), "J&F above"):
            table.add_column(name, justify="right")
        for line in self.summary():
            if line["method"] == self.methods[0]:
                table.add_section()
            compared = [Difference(**line["difference"][m]) for m in MEASURES] if "difference" in line else []
            table.add_row(
                str(line["horizon"]),
                str(line["pairs"]),
                _plain(line["method"]),
                *(f"{100 * line[measure]:.1f}" for measure in MEASURES),
                *(_points(each) for each in compared),
                *(f"{each.above} of {each.pairs}" for each in compared[:1]),
            )
        return table

    def to_json(self, **about: Any) -> str:
        """The summary, and the rows under `rows`, as fractions at full precision.

        Args:
            **about: What else to write, by name, such as the settings of the methods.
        """
        return json.dumps({**about, "summary": self.summary(), "rows": self.rows}, indent=1) + "\n"

    def save_plot(self, path: Path) -> Path | None:
        """Draw the means and the differences over the horizon.

        Args:
            path: Where to, a PNG.

        Returns:
            The file; None if matplotlib is not installed, which is logged.
        """
        pairs = {h: max(len(self.values(method, h, "J")) for method in self.methods) for h in self.horizons}
        means = {
            measure: {_plain(m): [100 * self.mean(m, h, measure) for h in pairs] for m in self.methods}
            for measure in ("J", "F")
        }
        differences = {
            measure: {_plain(m): self._drawn(m, measure) for m in self.methods[1:]} for measure in ("J", "F")
        }
        places = [f"{horizon}\nn={number}" for horizon, number in pairs.items()]
        # The end has other pairs, and is at another distance in each sequence.
        joined = len(places) - (END in pairs)
        return save_horizon_plot(path, places, joined, means, differences, _plain(self.methods[0]))

    def _drawn(self, method: str, measure: str) -> list[tuple[float, float]]:
        """Difference and standard error in points by horizon."""
        found = [self.difference(method, horizon, measure) for horizon in self.horizons]
        return [(100 * each.mean, 100 * (each.error or 0.0)) for each in found]


def score_objects(
    prediction: NDArray[np.integer], target: NDArray[np.integer], objects: Iterable[int]
) -> list[dict[str, str | int | float]]:
    """J and F of some objects in one frame.

    Args:
        prediction: Object ids (H, W).
        target: Ground truth ids (H, W); 255 is void and counts as background.
        objects: The ids to score.

    Returns:
        A mapping for each object, with `object` and the `MEASURES` as fractions.

    Raises:
        MaskError: The two have different shapes.
    """
    ids = list(objects)
    found, truth = (np.stack([mask == k for k in ids]) for mask in (prediction, target))  # (K, H, W)
    figures = zip(ids, jaccard(found, truth).tolist(), boundary_f(found, truth).tolist(), strict=True)
    return [{"object": k, "J&F": (j + f) / 2, "J": j, "F": f} for k, j, f in figures]


def _plain(method: str) -> str:
    return method.replace("_", " ")


def _points(difference: Difference) -> str:
    error = "" if difference.error is None else f" ± {100 * difference.error:.1f}"
    return f"{100 * difference.mean:+.1f}{error}"
