"""Scores on the page: the table by sequence, J&F over time, J&F by horizon."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vos_umec.metrics.sequence import Row
from vos_umec.report.charts import Line, line_chart
from vos_umec.report.embed import frame_scores
from vos_umec.report.run_files import ScoreFile, by_sequence, is_baseline

_MOST_SEQUENCES = 12  # whose curves are open at once


def figure(title: str, lines: Sequence[Line], note: str = "", percent: bool = False, **axes: Any) -> dict[str, Any]:
    """A chart with its title, its legend (name and last value of each line) and a note."""
    if percent:
        lines = [Line(line.name, [(x, 100 * y) for x, y in line.points]) for line in lines]
    form = "{:.1f} %" if percent else "{:.4g}"
    legend = [(line.name, form.format(line.points[-1][1])) for line in lines]
    label = f"{title}: " + ", ".join(f"{name} {value} at the end" for name, value in legend)
    return {"title": title, "svg": line_chart(lines, label, **axes), "legend": legend, "note": note}


def per_cent(value: float) -> dict[str, str]:
    """A fraction in per cent with one digit, and at full precision; NaN as an empty cell."""
    return {"text": "" if math.isnan(value) else f"{100 * value:.1f}", "exact": repr(value)}


def mean_jf(row: Row) -> float:
    """J&F of an object; the rows of YouTube-VOS have J and F alone."""
    return float(row["J&F"]) if "J&F" in row else (float(row["J-Mean"]) + float(row["F-Mean"])) / 2


def total_jf(scores: ScoreFile) -> float:
    """The score of the whole file, as it stands there: J&F, or `overall` of YouTube-VOS."""
    return scores.means.get("J&F", scores.means.get("overall", math.nan))


def plain(method: str) -> str:
    """A method's name as people read it."""
    return method.replace("_", " ")


def score_table(scores: Sequence[ScoreFile]) -> dict[str, Any] | None:
    """The table by sequence: a column for each method, and further figures of the first one."""
    if not scores:
        return None
    main = scores[0]
    columns: list[str] = [name for name in ("J-Mean", "F-Mean", "J-Recall", "J-Decay") if name in main.objects[0]]
    marked = next((each for each in scores[1:] if is_baseline(each.method)), None)
    marked = next((each for each in scores[1:] if each.method.endswith("label_propagation")), marked)
    parts = [dict(by_sequence(each.objects)) for each in scores]

    def line(name: str, rows: Sequence[Row], values: Sequence[float], means: dict[str, float]) -> dict[str, Any]:
        mark = None if marked is None else values[scores.index(marked)]
        return {
            "name": name,
            "objects": len(rows),
            "methods": [per_cent(value) for value in values],
            "bar": f"{100 * values[0]:.1f}",
            "mark": None if mark is None or math.isnan(mark) else f"{100 * mark:.1f}",
            "columns": [per_cent(means[column]) for column in columns],
        }

    rows = []
    for name, own in parts[0].items():
        values = [
            float(np.mean([mean_jf(row) for row in part[name]])) if name in part else math.nan for part in parts
        ]
        rows.append(line(name, own, values, {c: float(np.mean([float(row[c]) for row in own])) for c in columns}))
    means = {c: float(np.mean([float(row[c]) for row in main.objects])) for c in columns}
    means |= {c: main.means[c] for c in columns if c in main.means}
    return {
        "main": plain(main.method),
        "others": len(scores) > 1 and marked is not None,
        "marked": "" if marked is None else plain(marked.method),
        "methods": [plain(each.method) for each in scores],
        "columns": [name.removesuffix("-Mean") for name in columns],
        "rows": rows,
        "total": line("all", main.objects, [total_jf(each) for each in scores], means),
    }


def over_time(scores: Sequence[ScoreFile]) -> dict[str, Any] | None:
    """J&F over the frames: of all sequences in tenths of their lengths, then of each, the worst first."""
    known = {plain(each.method): frame_scores(each) for each in scores if each.curves}
    if not known:
        return None
    main = next(iter(known.values()))
    whole = []
    for method, frames in known.items():
        tenths = np.full((len(frames), 10), np.nan)
        for place, curve in enumerate(frames.values()):
            at = [min(9, 10 * i // len(curve)) for i in range(len(curve))]
            for tenth in set(at):
                tenths[place, tenth] = np.mean(
                    [value for i, (_, value) in zip(at, curve, strict=True) if i == tenth]
                )
        points = [
            (10 * i + 5.0, float(np.nanmean(column)))
            for i, column in enumerate(tenths.T)
            if not np.isnan(column).all()
        ]
        whole.append(Line(method, points))
    note = "Mean over the sequences, in tenths of each."
    figures = [
        figure("all sequences", whole, note, percent=True, x="per cent of the sequence,", floor=0, ceiling=100)
    ]
    for name in sorted(main, key=lambda name: float(np.mean([value for _, value in main[name]]))):
        lines = [
            Line(method, [(i + 1.0, value) for i, (_, value) in enumerate(frames[name])])
            for method, frames in known.items()
            if name in frames
        ]
        figures.append(figure(name, lines, percent=True, x="scored frame", floor=0, ceiling=100))
    return {"first": figures[: _MOST_SEQUENCES + 1], "rest": figures[_MOST_SEQUENCES + 1 :]}


def horizon(content: dict[str, Any]) -> dict[str, Any]:
    """Chart and table of a horizon.json."""
    summary = content["summary"]
    methods = list(dict.fromkeys(str(line["method"]) for line in summary))
    found = {(str(line["horizon"]), str(line["method"])): line for line in summary}
    lines = []
    for method in methods:
        points = [
            (float(x["horizon"]), float(x["J&F"]))
            for x in summary
            if x["method"] == method and x["horizon"] != "end"
        ]
        lines += [Line(plain(method), points)] if points else []
    rows = []
    for horizon in dict.fromkeys(str(line["horizon"]) for line in summary):
        values = [found.get((horizon, method), {}).get("J&F", math.nan) for method in methods]
        pairs = max(int(line["pairs"]) for (at, _), line in found.items() if at == horizon)
        rows.append({"horizon": horizon, "pairs": pairs, "values": [per_cent(value) for value in values]})
    drawn = figure("J&F by horizon", lines, percent=True, x="frames after", floor=0, ceiling=100)
    return {"figure": drawn, "methods": [plain(method) for method in methods], "rows": rows}
