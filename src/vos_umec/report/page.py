"""The page of a run: one HTML file that needs nothing beside it."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from vos_umec.progress import duration
from vos_umec.report.about import facts, find_missing, shell_command
from vos_umec.report.charts import Line
from vos_umec.report.embed import embed_file, extremes_of_masks
from vos_umec.report.run_files import Curve, RunFiles, by_sequence, last
from vos_umec.report.score_parts import figure, horizon, over_time, plain, score_table, total_jf

_MOST_STEPS = 12
"""Refreshes and validations whose pictures are shown, at most: evenly spaced, with the first and the last."""
_HEALTH = {
    "entropy": "Entropy of the cluster sizes: 1 for equal sizes, near 0 where one cluster has all.",
    "small": "Fraction of the clusters that hold less than 0.5 % of the cells.",
    "consistency": "Fraction of the cells that keep their segment in the next frame.",
    "position": "Fraction of the objective that comes from position; near 1 the segments are tiles.",
}
_PARTS = {
    "scores": "Scores",
    "frames": "Best and worst",
    "time": "Over time",
    "horizon": "By horizon",
    "training-scores": "Over training",
    "losses": "Losses",
    "masks": "Pseudo masks",
    "validation": "Validation",
    "pictures": "Pictures",
    "about": "What was run",
}


def render(run: RunFiles) -> str:
    """The page of a run as text."""
    environment = Environment(
        loader=PackageLoader("vos_umec.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    source = environment.loader.get_source  # type: ignore[union-attr]
    content: dict[str, Any] = {
        "scores": score_table(run.scores),
        "extremes": _extremes(run),
        "over_time": over_time(run.scores),
        "horizons": [horizon(each) for each in run.horizons.values()],
        "validation": _validation(run),
        "losses": _losses(run),
        "health": _health(run),
        "refreshes": _refreshes(run),
        "shown": _shown(run),
        "pictures": _pictures(run),
    }
    filled = {
        "frames": content["extremes"], "time": content["over_time"], "horizon": content["horizons"],
        "training-scores": content["validation"], "masks": content["health"] or content["refreshes"],
        "validation": content["shown"], "about": True,
    }  # fmt: skip
    name = run.folder.resolve()
    page = environment.get_template("page.html.j2").render(
        **content,
        title=f"{name.parent.name}, {name.name}" if name.name.startswith("version_") else name.stem,
        place=str(run.folder),
        tiles=_tiles(run),
        parts=[(id, text) for id, text in _PARTS.items() if filled.get(id, content.get(id))],
        failure=_failure(run),
        command=shell_command(run.record),
        facts=facts(run),
        config=run.config,
        missing=[(what, _with_code(how)) for what, how in find_missing(run, drawn=bool(content["extremes"]))],
        version=version("vos-umec"),
        style=Markup(source(environment, "page.css")[0]),
        script=Markup(source(environment, "page.js")[0]),
    )
    return page + "\n"


def _with_code(text: str) -> Markup:
    """A text in which backticks mark code."""
    parts = [
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def _tiles(run: RunFiles) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = []

    def add(name: str, value: str, unit: str = "", note: str = "") -> None:
        tiles.append({"name": name, "value": value, "unit": unit, "note": note})

    if run.scores:
        main = run.scores[0]
        beside = [f"{plain(each.method)} {100 * total_jf(each):.1f}" for each in run.scores[1:]][:2]
        add(f"J&F of {plain(main.method)}", f"{100 * total_jf(main):.1f}", "%", ", ".join(beside))
        sequences = len(dict(by_sequence(main.objects)))
        add("objects scored", str(len(main.objects)), "", f"of {sequences} sequence{'s' * (sequences != 1)}")
    for split, curve in _splits(run.metrics).items():
        best = max(curve, key=lambda point: point[1])
        note = f"best {100 * best[1]:.1f} at step {best[0]:g}" if len(curve) > 1 else ""
        add(f"J&F on {split}", f"{100 * last(curve):.1f}", "%", note)
    if "train/loss" in run.metrics:
        curve = run.metrics["train/loss"]
        add("last loss", f"{last(curve):.4g}", "", f"first {curve[0][1]:.4g}")
        epochs = f"in {last(run.epochs) + 1:g} epochs" if run.epochs else ""
        add("last logged step", f"{curve[-1][0]:g}", "", epochs)
    if run.refreshes:
        add("refreshes", str(max(run.refreshes)), "", "of the pseudo masks")
    if seconds := run.record.get("seconds"):
        add("time", duration(float(seconds)))
    return tiles


def _failure(run: RunFiles) -> str:
    if not run.not_finite:
        return ""
    what = "loss" if "loss" in run.not_finite else "weights"
    videos = ", ".join(dict.fromkeys(map(str, run.not_finite.get("videos", []))))
    place = f"step {run.not_finite.get('step')}, epoch {run.not_finite.get('epoch')}"
    return (
        f"The {what} was not finite after {place}, on clips of {videos or 'unnamed videos'}; see not_finite.json."
    )


def _splits(metrics: dict[str, Curve]) -> dict[str, Curve]:
    """J&F of the model by split: `val/J&F` is that of val, `val/copy_first_mask/J&F` that of a baseline."""
    return {
        name.removesuffix("/J&F"): curve
        for name, curve in metrics.items()
        if name.count("/") == 1 and name.endswith("/J&F")
    }


def _validation(run: RunFiles) -> list[dict[str, Any]]:
    figures = []
    for split, curve in _splits(run.metrics).items():
        lines = [Line("J&F", curve)]
        lines += [
            Line(name[0], run.metrics[f"{split}/{name}"])
            for name in ("J-Mean", "F-Mean")
            if f"{split}/{name}" in run.metrics
        ]
        for name, other in run.metrics.items():
            if name.startswith(f"{split}/") and name.endswith("/J&F") and name.count("/") == 2:
                lines.append(Line(plain(name.split("/")[1]), other))
        figures.append(figure(f"scores on {split}", lines, percent=True))
    return figures


def _losses(run: RunFiles) -> list[dict[str, Any]]:
    order = {"train/loss": 0, "train/seg": 1}
    names = sorted(
        (name for name in run.metrics if name.startswith(("train/", "lr"))),
        key=lambda name: (order.get(name, 2), name),
    )
    notes = {
        "train/loss": "All losses of a step together.",
        "train/seg": "Propagation of the pseudo masks, from the first refresh on.",
        "train/dense": "Dense contrast: cells of later frames are told apart by those of one frame.",
        "train/dense_accuracy": "Fraction of the cells that agree with their label there; rises.",
        "train/cross": "Cells of a frame and of its crop are matched.",
        "train/cross_accuracy": "Fraction of the cells that are matched rightly; rises.",
        "train/data_wait": "Fraction of the time in which training waits for clips.",
    }
    return [
        figure(
            name.removeprefix("train/"), [Line(name.removeprefix("train/"), run.metrics[name])], notes.get(name, "")
        )
        for name in names
    ]


def _health(run: RunFiles) -> list[dict[str, Any]]:
    known = {name: run.metrics[f"segments/{name}"] for name in _HEALTH if f"segments/{name}" in run.metrics}
    return [figure(name, [Line(name, curve)], _HEALTH[name], floor=0, ceiling=1) for name, curve in known.items()]


def _evenly(items: Sequence[Any]) -> list[Any]:
    """At most _MOST_STEPS items, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(_MOST_STEPS, len(items))).round().astype(int)
    return [items[place] for place in dict.fromkeys(places.tolist())]


def _picture(path: Path, width: int, label: str, alt: str, **more: Any) -> list[dict[str, Any]]:
    found = embed_file(path, width)
    return [] if found is None else [{"image": found, "label": label, "alt": alt, "note": "", **more}]


def _refreshes(run: RunFiles) -> dict[str, Any] | None:
    if not run.refreshes:
        return None
    numbers = _evenly(sorted(run.refreshes))
    videos: dict[str, list[dict[str, Any]]] = {}
    for number in numbers:
        for video, path in run.refreshes[number].items():
            alt = f"Frames of {video} above their pseudo masks after refresh {number}"
            videos.setdefault(video, []).extend(_picture(path, 1200, f"refresh {number}", alt, axis="Refresh"))
    shown = [(video, frames) for video, frames in videos.items() if frames]
    return {"videos": shown, "all": len(run.refreshes), "left_out": len(run.refreshes) - len(numbers)}


def _shown(run: RunFiles) -> list[tuple[str, list[dict[str, Any]]]]:
    sequences: dict[str, list[dict[str, Any]]] = {}
    overlays = [each for each in run.overlays if each.about.get("kind") == "shown"]
    steps = set(_evenly(sorted({int(each.about["step"]) for each in overlays})) if overlays else ())
    for each in sorted(overlays, key=lambda each: int(each.about["step"])):
        if (step := int(each.about["step"])) in steps:
            name, value = str(each.about["sequence"]), 100 * float(each.about["J&F"])
            alt = f"Frame {each.about['frame']} of {name}: the truth and the prediction at step {step}"
            note = f"frame {each.about['frame']}, J&F of the sequence {value:.1f}"
            made = _picture(each.path, 640, f"step {step}", alt, axis="Step")
            sequences.setdefault(name, []).extend({**picture, "note": note} for picture in made)
    return [(name, frames) for name, frames in sequences.items() if frames]


def _extremes(run: RunFiles) -> list[tuple[str, list[dict[str, Any]]]]:
    drawn: dict[str, list[dict[str, Any]]] = {"worst": [], "best": []}
    for scores in run.scores[:1]:
        for kind, frames in extremes_of_masks(scores).items():
            for name, frame, value, image in frames:
                label = f"{name}, frame {frame}: {100 * value:.1f}"
                drawn[kind].append({"image": image, "label": label, "alt": f"Truth and prediction: {label}"})
    overlays = [each for each in run.overlays if each.about.get("kind") in drawn]
    if not any(drawn.values()):
        for each in sorted(overlays, key=lambda each: float(each.about["J&F"])):
            label = f"{each.about['sequence']}, frame {each.about['frame']}: {100 * float(each.about['J&F']):.1f}"
            drawn[each.about["kind"]] += _picture(each.path, 640, label, f"Truth and prediction: {label}")
        drawn["best"].reverse()
    return [(title, drawn[kind]) for kind, title in (("worst", "Worst"), ("best", "Best")) if drawn[kind]]


def _pictures(run: RunFiles) -> list[dict[str, Any]]:
    return [
        picture
        for path in run.pictures
        for picture in _picture(path, 1200, path.name, f"{path.stem.replace('_', ' ')} of the run")
    ]
