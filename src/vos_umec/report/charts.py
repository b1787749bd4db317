"""Line charts as inline SVG, whose colors and fonts come from the page's style."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 10, 24
MOST_POINTS = 300
"""Points of a line, at most; of more, each is the mean of neighbors."""
_MARKED = 40  # points of a line that are marked, at most


class Line(NamedTuple):
    """A line of a chart: (x, y) in ascending x."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(
    lines: Sequence[Line], label: str, x: str = "step", floor: float | None = None, ceiling: float | None = None
) -> Markup:
    """Draw lines over a common axis; the page's script shows the values under the pointer.

    Args:
        lines: The lines, each with at least one point.
        label: What the chart shows, for those who do not see it.
        x: What the horizontal axis counts.
        floor: Lowest value of the vertical axis; None for the lowest of the lines.
        ceiling: Highest value, likewise.

    Returns:
        The element `<svg>`.
    """
    thin = [Line(line.name, _thinned(line.points)) for line in lines]
    xs = [point[0] for line in thin for point in line.points]
    ys = [point[1] for line in thin for point in line.points]
    y_ticks = ticks(min(ys) if floor is None else floor, max(ys) if ceiling is None else ceiling)
    x_ticks = [tick for tick in ticks(min(xs), max(xs), 5) if min(xs) <= tick <= max(xs)]
    low_x, wide = min(xs), (max(xs) - min(xs)) or 1.0
    low_y, high = y_ticks[0], (y_ticks[-1] - y_ticks[0]) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - low_x) / wide * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - (y - low_y) / high * (HEIGHT - _TOP - _BOTTOM),
        )

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" data-x="{escape(x)}">']
    for tick in y_ticks:
        at = place(low_x, tick)[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in x_ticks:
        at = place(tick, low_y)[0]
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<line class="at" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
    for order, line in enumerate(thin):
        placed = [place(*point) for point in line.points]
        values = " ".join(f"{a:.7g}:{b:.7g}" for a, b in line.points)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in placed)
        parts.append(f'<polyline class="s{order % 6}" points="{points}" data-values="{values}"/>')
        if len(placed) <= _MARKED:
            parts += [f'<circle class="s{order % 6}" cx="{a:.1f}" cy="{b:.1f}" r="2.6"/>' for a, b in placed]
    return Markup("".join([*parts, "</svg>"]))  # all texts in it are escaped


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from one below `low` to one above `high`.

    Example:
        >>> ticks(0.12, 0.47), ticks(3, 3)
        ([0.1, 0.2, 0.3, 0.4, 0.5], [2.5, 2.75, 3.0, 3.25, 3.5])
    """
    if high <= low:
        low, high = low - (abs(low) / 6 or 0.5), low + (abs(low) / 6 or 0.5)
    rough = (high - low) / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{step * place:.12g}") for place in range(first, last + 1)]


def number(value: float) -> str:
    """A number for people, of about three digits.

    Example:
        >>> [number(value) for value in (0.25, 12, 1500, 2_500_000)]
        ['0.25', '12', '1500', '2.5M']
    """
    for limit, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e6 if letter == 'M' else 1e3):.3g}{letter}"
    return f"{value:.4g}"


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most MOST_POINTS points, each the mean of its neighbors, but for the last, which stays as it is."""
    if len(points) <= MOST_POINTS:
        return points
    each = math.ceil((len(points) - 1) / (MOST_POINTS - 1))
    parts = [points[start : start + each] for start in range(0, len(points) - 1, each)]
    means = [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]
    return [*means, points[-1]]
