"""J&F of a folder of result masks, reading included, against vos-benchmark and the plain form of the official tool.

The peers are imported where they are used: our worker processes import this file, and would wait for them.
"""

import csv
import math
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Comparison, Curve, Parts, Result, compare, main, scale
from PIL import Image

from vos_umec.data.davis import davis_sequences
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.metrics.jf import match_radius, pack_pair, pair_f, pair_jaccard
from vos_umec.metrics.results import Scores, evaluate_results
from vos_umec.metrics.score_files import MaskFiles, score_sequence

Means = dict[tuple[str, int], tuple[float, float]]  # J and F of (sequence, object), as fractions

RULES = (
    "vos-benchmark differs by rule, though not on these: it scores label 255 as an object, and an object from the "
    "frame on in which it is first seen, not those of the first frame. The peak is that of the measuring process: "
    "vos-benchmark works in others, even for one, and so does our second."
)


def run() -> list[Result]:
    """All results; the folders live as long as this runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = data_set(folder / "once", copies=1), data_set(folder / "four", copies=4)
        check_rules()
        return [
            against_vos_benchmark(*small, workers=1, rounds=5),
            against_vos_benchmark(*large, workers=2, rounds=3),
            against_the_official_form(*small),
            parts(*small),
            *curves(folder / "curves"),
            worker_curve(*large),
        ]


def data_set(folder: Path, copies: int) -> tuple[Path, Path]:
    """A DAVIS root and results to score: OSVOS on the real sequences where they are, else made discs."""
    real = Path(os.environ.get("VOS_UMEC_DATA", "")) / "golden" / "osvos"
    root, results = folder / "davis", folder / "results"
    davis = real.parent.parent / "davis"
    if os.environ.get("VOS_UMEC_DATA") and real.is_dir():
        sources = {path.name: (davis / "Annotations/480p" / path.name, path) for path in sorted(real.iterdir())}
    else:
        made = folder.parent / "made"
        sources = {f"discs{K}": make_discs(made / f"discs{K}", T=60, K=K) for K in (1, 2, 3)}
    names = [f"{name}-{copy}" for copy in range(copies) for name in sources]
    for name in names:
        truth, result = sources[name.rsplit("-", 1)[0]]
        link(root / "Annotations/480p" / name, truth)
        link(results / name, result)
        frames = davis / "JPEGImages/480p" / truth.name
        link(root / "JPEGImages/480p" / name, frames if frames.is_dir() else truth)  # frames are only counted
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("\n".join(names))
    return root, results


def link(place: Path, target: Path) -> None:
    """Let `place` stand for `target`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target.absolute())


def make_discs(folder: Path, T: int, K: int, size: tuple[int, int] = (480, 854)) -> tuple[Path, Path]:
    """Ground truth and results of K discs that drift about, a tenth of the image's area together."""
    if folder.exists():
        return folder / "truth", folder / "result"
    H, W = size
    generator = np.random.default_rng(K)
    y, x = np.mgrid[:H, :W]
    centre, radius = generator.uniform(0.2, 0.8, (K, 2)) * size, math.sqrt(0.1 * H * W / math.pi / K)
    for t in range(T):
        truth, result = np.zeros((2, H, W), np.uint8)
        for k in range(K):
            off, bump = generator.normal(0, 0.01 * H, 2), 1 + 0.1 * generator.normal()
            v, u = centre[k] + t * 0.002 * H
            truth[(y - v) ** 2 + (x - u) ** 2 < radius**2] = k + 1
            result[(y - v - off[0]) ** 2 + (x - u - off[1]) ** 2 * bump < radius**2] = k + 1
        write_mask(folder / "truth" / f"{t:05d}.png", truth)
        write_mask(folder / "result" / f"{t:05d}.png", result)
    return folder / "truth", folder / "result"


def ours(root: Path, results: Path, workers: int) -> Scores:
    """What `vos-umec evaluate` does."""
    return evaluate_results(results, davis_sequences(root), workers=workers)


def theirs(root: Path, results: Path, workers: int) -> Means:
    """What vos-benchmark's documented function does; it leaves a file of its own in the folder of results."""
    from vos_benchmark.benchmark import benchmark

    scores = benchmark([str(root / "Annotations/480p")], [str(results)], num_processes=workers, verbose=False)[3][0]
    return {(name, k): (J[k] / 100, F[k] / 100) for name, (J, F) in scores.items() for k in J}


def official_form(root: Path, results: Path, names: list[str]) -> Means:
    """The official algorithm in its plain form: all masks of a sequence as float64 maps, whole images dilated."""
    means: Means = {}
    for name in names:
        truths = sorted((root / "Annotations/480p" / name).glob("*.png"))
        ids = [np.array(Image.open(path)) for path in truths]
        found = [np.array(Image.open(results / name / path.name)) for path in truths]
        for k in sorted(set(np.unique(ids[0]).tolist()) - {0, 255}):
            target, prediction = (np.stack([m == k for m in maps]).astype(np.float64) for maps in (ids, found))
            masks = list(zip(prediction[1:-1].astype(bool), target[1:-1].astype(bool), strict=True))
            J = [(p & g).sum() / (p | g).sum() if (p | g).any() else 1.0 for p, g in masks]
            means[name, k] = float(np.mean(J)), float(np.mean([plain_f(p, g) for p, g in masks]))
    return means


def plain_f(prediction: np.ndarray, target: np.ndarray) -> float:
    """F by dilating the whole contour maps with a disk."""
    import cv2
    from skimage.morphology import disk

    footprint = disk(math.ceil(0.008 * math.hypot(*target.shape)))
    edges, near = [], []
    for mask in (prediction, target):
        grown = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
        edges.append((mask ^ grown[:-1, 1:]) | (mask ^ grown[1:, :-1]) | (mask ^ grown[1:, 1:]))
        near.append(cv2.dilate(edges[-1].astype(np.uint8), footprint).astype(bool))
    if not edges[0].any() or not edges[1].any():
        return float(edges[0].any() == edges[1].any())
    precision, recall = (edges[0] & near[1]).sum() / edges[0].sum(), (edges[1] & near[0]).sum() / edges[1].sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def check_rules() -> None:
    """That `RULES` says the truth of the vos-benchmark installed."""
    from vos_benchmark.evaluator import Evaluator

    evaluator = Evaluator()
    for label in (1, 255, 2):
        ids = np.full((20, 20), label, np.uint8)
        evaluator.feed_frame(ids, ids)
    assert set(evaluator.conclude()[0]) == {1, 2, 255}


def equal_means(scores: Scores, other: Means, tolerance: float) -> str:
    """Check J and F of every object, and say how far apart they are at most."""
    mine = {(str(row["sequence"]), int(row["object"])): (row["J-Mean"], row["F-Mean"]) for row in scores.objects}
    assert set(other) <= set(mine), set(other) ^ set(mine)
    furthest = max(abs(a - b) for key in other for a, b in zip(mine[key], other[key], strict=True))
    assert furthest <= tolerance, furthest
    return f"J and F of {len(other)} objects equal to {furthest:.0e}"


def equal_to_the_official_figures(scores: Scores) -> str:
    """Check all six figures of each object against the official tool's, which its file gives to 6 decimals."""
    path = Path(os.environ.get("VOS_UMEC_DATA", "")) / "golden" / "osvos_official.csv"
    if not path.is_file():
        return ""
    mine = {(str(row["sequence"]).rsplit("-", 1)[0], row["object"]): row for row in scores.objects}
    with path.open(newline="") as file:
        official = {(row["sequence"], int(row["object"])): row for row in csv.DictReader(file)}
    assert set(official) == set(mine), set(official) ^ set(mine)
    names = [f"{measure}-{figure}" for measure in "JF" for figure in ("Mean", "Recall", "Decay")]
    furthest = max(
        abs(float(mine[key][name]) - float(row[name[:2].replace("-", "_") + name[2:].lower()]))
        for key, row in official.items()
        for name in names
    )
    assert furthest <= 5.1e-7, furthest
    return f"; all figures equal to the official tool's to {furthest:.1e}, whose file is rounded to 6 decimals"


def against_vos_benchmark(root: Path, results: Path, workers: int, rounds: int) -> Comparison:
    """Both on the whole folder, with as many processes each."""
    sequences = davis_sequences(root)

    def check(found: dict[str, Any]) -> str:
        scores = found["vos_umec"]
        return equal_means(scores, found["vos-benchmark"], 1e-6) + equal_to_the_official_figures(scores)

    frames = sum(len(sequence.annotations) - 2 for sequence in sequences)
    processes = "one process each" if workers == 1 else f"{workers} processes each"
    result = compare(
        f"J&F of {len(sequences)} sequences, {frames} scored frames, {processes}",
        {
            "vos_umec": partial(ours, root, results, workers),
            "vos-benchmark": partial(theirs, root, results, workers),
        },
        check,
        rounds,
        wanted="at least 5 times faster, equal to 1e-6" if workers == 1 else "faster than with one process",
    )
    result.notes = per_frame_and_object(result, pairs(root)) + RULES
    return result


def pairs(root: Path) -> int:
    """Scored frames times objects, over all sequences."""
    total = 0
    for sequence in davis_sequences(root):
        objects = set(np.unique(read_mask(sequence.annotations[0])).tolist()) - {0, 255}
        total += (len(sequence.annotations) - 2) * len(objects)
    return total


def per_frame_and_object(result: Comparison, n: int) -> str:
    """The same times by scored frame and object."""
    by_way = {name: 1000 * float(np.median(seconds)) / n for name, seconds in result.seconds.items()}
    return f"By scored frame and object: {', '.join(f'{name} {ms:.2f} ms' for name, ms in by_way.items())}. "


def against_the_official_form(root: Path, results: Path) -> Comparison:
    """One process each, on two sequences of one object, since the plain form holds whole sequences as float64."""
    chosen = [s for s in davis_sequences(root) if len(np.unique(read_mask(s.prompts[0]))) == 2][:2]
    names = [sequence.name for sequence in chosen]
    result = compare(
        f"J&F of {len(names)} sequences of one object, plain form of the official algorithm",
        {
            "vos_umec": lambda: evaluate_results(results, chosen),
            "official form": lambda: official_form(root, results, names),
        },
        lambda found: equal_means(found["vos_umec"], found["official form"], 1e-12),
        rounds=3,
    )
    result.notes = per_frame_and_object(result, sum(len(sequence.annotations) - 2 for sequence in chosen))
    return result


def parts(root: Path, results: Path) -> Parts:
    """Where our time goes, in one process."""
    seconds = dict.fromkeys(("read", "pack to bits", "J", "F"), 0.0)

    def spend(part: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        done = work()
        seconds[part] += time.perf_counter() - start
        return done

    for sequence in davis_sequences(root):
        objects = sorted(set(np.unique(read_mask(sequence.annotations[0])).tolist()) - {0, 255})
        for index in sorted(sequence.annotations)[1:-1]:
            truth = sequence.annotations[index]
            target = spend("read", partial(read_mask, truth))
            prediction = spend("read", partial(read_mask, results / sequence.name / truth.name))
            for k in objects:
                pair = spend("pack to bits", lambda p=prediction, g=target, k=k: pack_pair(p == k, g == k))
                spend("J", partial(pair_jaccard, pair))
                spend("F", partial(pair_f, pair, match_radius(target.shape)))
    return Parts("J&F of the folder, one process, by part", seconds)


def curves(folder: Path) -> list[Curve]:
    """Reading and scoring made discs, one thing growing at a time."""

    def work(T: int = 12, K: int = 1, side: float = 1.0) -> Callable[[], Any]:
        size = round(480 * side), round(854 * side)
        truth, result = make_discs(folder / f"{T}-{K}-{size[0]}", T, K, size)
        return partial(score_sequence, MaskFiles("discs", tuple(sorted(truth.glob("*.png"))), result))

    return [
        scale("J&F, 480p, one object", "frames", [12, 25, 50, 100], lambda T: work(T=T)),
        scale(
            "J&F, 480p, 12 frames",
            "objects",
            [1, 2, 4, 8, 16],
            lambda K: work(K=K),
            notes="Less than 1: reading a frame costs the same however many objects it shows.",
        ),
        scale(
            "J&F, 12 frames, one object",
            "pixels",
            [round(480 * s) * round(854 * s) for s in (0.5, 1, 2, 4)],
            lambda n: work(side=math.sqrt(n / (480 * 854))),
            notes="Less than 1 up to 480p, where the fixed cost of some hundred small steps a frame prevails.",
        ),
    ]


def worker_curve(root: Path, results: Path) -> Curve:
    """The same folder with 1 and 2 processes."""
    return scale(
        "J&F of the folder four times over",
        "processes",
        [1, 2],
        lambda workers: partial(ours, root, results, workers),
        expected=-1,
        notes="The second process takes about 0.2 s to start; listing the folder is done by the first alone.",
    )


if __name__ == "__main__":
    main(run)
