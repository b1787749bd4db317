"""Writes `docs/performance.md` and its plots from the JSON that the benchmarks left in `runs/bench`."""

import json
import platform
import re
import statistics
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from harness import RESULTS, Comparison, Curve, Parts, Result, show_seconds

mpl.use("Agg")
from matplotlib import pyplot as plt

PAGE = Path("docs/performance.md")
KINDS: dict[str, Any] = {"Comparison": Comparison, "Curve": Curve, "Parts": Parts}
PACKAGES = ("torch", "numpy", "faiss-cpu", "decord2", "av", "pillow", "vos-benchmark", "scikit-learn")


def write(results_folder: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the page, and the plots into a folder of the same name beside it."""
    groups = {path.stem: load(path) for path in sorted(results_folder.glob("*.json"))}
    results = [result for group in groups.values() for result in group]
    text = [
        "# Performance",
        "",
        "Written by `make bench`, not by hand. All ways of one piece of work run in turn, in one process. Times",
        "are medians. The ratio is what counts; its smallest and largest values are in brackets. Memory is what",
        "the work needed beside what the process held before.",
        "",
        f"{machine()}. {date.today()}: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}.",
        "",
        "## Side by side",
        "",
    ]
    text += comparisons([r for r in results if isinstance(r, Comparison)])
    text += ["", "## Where the time goes", ""]
    for parts in (r for r in results if isinstance(r, Parts)):
        text += part_table(parts)
    text += ["## How time and memory grow", ""]
    text += curve_table([r for r in results if isinstance(r, Curve)], page.with_suffix(""))
    if (gpu := page.with_suffix("") / "gpu_check.md").is_file():
        text += ["", "## On one GPU", "", "Written by `make gpu-check`.", "", gpu.read_text()]
    page.write_text("\n".join(text).rstrip() + "\n")


def load(path: Path) -> list[Result]:
    """The results of one benchmark."""
    rows = json.loads(path.read_text())
    return [KINDS[row.pop("kind")](**row) for row in rows]


def comparisons(results: list[Comparison]) -> list[str]:
    """A table with a row a way, and the notes under it."""
    text = ["| work | way | time | its time over ours | peak memory |", "|---|---|---|---|---|"]
    notes = []
    for result in results:
        for name, seconds in result.seconds.items():
            ratio = ""
            if name != result.ours:
                ratios = result.ratios(name)
                ratio = f"**{statistics.median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f})"
            title = result.title if name == result.ours else ""
            time = show_seconds(statistics.median(seconds))
            text.append(f"| {title} | {name} | {time} | {ratio} | {result.peak_mib[name]:.0f} MiB |")
        found = "; ".join(part.rstrip(". ") for part in (result.checked, result.notes) if part)
        wanted = f"Wanted: {result.wanted}" if result.wanted else ""
        if said := " ".join(f"{part}." for part in (found, wanted) if part):
            notes.append(f"* **{result.title}**: {said}")
    return [*text, "", *notes]


def part_table(parts: Parts) -> list[str]:
    """A table of the parts of one piece of work."""
    total = sum(parts.seconds.values())
    text = [f"### {parts.title}", "", "| part | time | share |", "|---|---|---|"]
    text += [f"| {name} | {show_seconds(s)} | {100 * s / total:.0f} % |" for name, s in parts.seconds.items()]
    return [*text, "", *([parts.notes, ""] if parts.notes else [])]


def curve_table(curves: list[Curve], plots: Path) -> list[str]:
    """One table and one plot for each curve; plots of curves that are no more go."""
    plots.mkdir(parents=True, exist_ok=True)
    for old in plots.glob("*.png"):
        old.unlink()
    text = [
        "| work | against | sizes | time | exponent | expected | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    pictures, notes = [], []
    for curve in curves:
        name = re.sub("[^a-z0-9]+", "-", f"{curve.title} {curve.axis}".lower()).strip("-")
        plot(curve, plots / f"{name}.png")
        sizes = ", ".join(f"{s:g}" for s in curve.sizes)
        times = ", ".join(show_seconds(s) for s in curve.seconds)
        peaks = ", ".join(f"{p:.0f}" for p in curve.peak_mib)
        text.append(
            f"| {curve.title} | {curve.axis} | {sizes} | {times} | **{curve.exponent:.2f}** | {curve.expected:g} "
            f"| {peaks} MiB |"
        )
        pictures.append(f"![{curve.title} against {curve.axis}]({plots.name}/{name}.png)")
        if curve.notes:
            notes.append(f"* **{curve.title}, {curve.axis}**: {curve.notes}")
    return [*text, "", *notes, "", *pictures]


def plot(curve: Curve, path: Path) -> None:
    """Time (left) and memory (right) against size, on logarithmic axes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained")
    left.loglog(curve.sizes, curve.seconds, "o-", label=f"measured, exponent {curve.exponent:.2f}")
    start = curve.seconds[0]
    ideal = [start * (size / curve.sizes[0]) ** curve.expected for size in curve.sizes]
    left.loglog(curve.sizes, ideal, "--", color="grey", label=f"exponent {curve.expected:g}")
    left.set(xlabel=curve.axis, ylabel="seconds")
    left.legend(fontsize=7)
    right.semilogx(curve.sizes, curve.peak_mib, "o-", color="tab:orange")
    right.set(xlabel=curve.axis, ylabel="peak MiB", ylim=(0, 1.2 * max(1.0, *curve.peak_mib)))
    for axes in (left, right):
        axes.set_xticks(curve.sizes, [f"{s:g}" for s in curve.sizes], fontsize=7)
        axes.minorticks_off()
    figure.suptitle(curve.title, fontsize=9)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def machine() -> str:
    """What ran it."""
    model = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = f"{len(names)} cores of {names[0]}"
    bf16 = getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16", False)
    return f"{model}{' with AVX512-BF16' if bf16 else ''}, {platform.system()}, Python {platform.python_version()}"


if __name__ == "__main__":
    write()
