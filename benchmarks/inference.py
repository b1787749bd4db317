"""Segmenting a 480p video: label propagation and the whole model, against the plain way, by part and by size."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from arithmetic import convolutions, do, further, matrix_product_rate
from crw import CrwPropagation
from harness import (
    Comparison,
    Curve,
    Parts,
    Result,
    compare,
    main,
    peak_memory,
    resident_mib,
    scale,
    show_seconds,
    slope,
    timed,
)
from segmenting import (
    NARROW,
    PAPER,
    REFERENCES,
    TAU,
    annotated_windows,
    clip,
    full,
    grid_masks,
    network,
    stepping,
)

from vos_umec.inference.load import load_segmenter
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.masks import write_mask
from vos_umec.io.video_writer import VideoWriter
from vos_umec.models.factory import build_network
from vos_umec.viz.overlays import overlay

RADIUS, TOP_K = 12, 10
WIDTHS = {"paper": PAPER, "narrow": NARROW}
METHODS = {  # of a step, and the methods of VideoSegmenter that do them
    "encode": ("_prepare", "_encode"),
    "read-out": ("_readout",),
    "embed": ("_refiner", "_embed"),
    "decode mask": ("_refine",),
}
MARGIN = 4  # cells around an object, where V and D are cropped: VideoSegmenter's default


def propagation() -> Comparison:
    """(a) Label propagation, ours against the plain way."""
    net = network()
    with peak_memory() as peak:
        ours = full(VideoSegmenter(net, rounds=0))
    exact = full(VideoSegmenter(net, rounds=0, bf16=False))
    plain = CrwPropagation(net.encoder, REFERENCES, RADIUS, TOP_K, TAU)
    for t in range(REFERENCES + 1):
        masks = grid_masks(clip().objects(t, 1), 1).flatten(0, 1)
        plain.remember(plain.encode(clip().frames[t]), masks)
    seen: dict[str, list[np.ndarray]] = {}
    ways = {"ours": ours, "ours, encoder in fp32": exact, "CRW's form, encoder in fp32": plain}

    def noting(name: str, step: Callable[[], np.ndarray]) -> Callable[[], None]:
        return lambda: seen.setdefault(name, []).append(step())

    result = compare(
        f"Label propagation, a frame of {clip().name}, ResNet-18 stage 3, first + 20, one object",
        {name: noting(name, stepping(way)) for name, way in ways.items()},
        rounds=3,
        wanted="10 times faster",
        notes=f"filling our reference memory took {peak[0]:.0f} MiB",
    )
    labels = list(seen.values())
    same = [np.mean(np.stack(labels[i]) == np.stack(labels[2])) for i in (0, 1)]
    if same[1] < 0.9999 or same[0] < 0.99:
        raise AssertionError(f"label maps differ from the plain way's: {same} of the pixels are equal")
    result.checked = (
        f"label maps of {len(labels[0])} frames in a row, each way on its own memory, equal to CRW's form on "
        f"{100 * same[1]:.4f} % of the pixels with the encoder in fp32, on {100 * same[0]:.3f} % in bf16"
    )
    return result


def objects(title: str, widths: dict, margin: int | None, counts: tuple[int, ...] = (1, 2, 3, 5)) -> Comparison:
    """(b) The whole model with several numbers of objects, in turn with label propagation."""
    net = network(**widths)
    ways = {"label propagation, 1 object": stepping(full(VideoSegmenter(net, rounds=0)))}
    for K in counts:
        segmenter = annotated_windows(full(VideoSegmenter(net, crop_margin=margin), K), K)
        ways[f"whole model, K = {K}"] = stepping(segmenter)
    convs = further(*(convolutions(ways[f"whole model, K = {K}"]) for K in (counts[-1], counts[0])))
    more = counts[-1] - counts[0]
    ways[f"the convolutions of {more} further objects, and nothing else"] = lambda: do(convs)
    result = compare(
        f"Whole model, 3 rounds, {title}",
        ways,
        rounds=3,
        wanted="with one object at most 2.2 times label propagation, each further object at most 0.35 times it",
    )
    base, *whole, alone = (np.median(seconds) for seconds in result.seconds.values())
    each, work = (whole[-1] - whole[0]) / more, do(convs) / more / 1e9
    result.notes = (
        f"one object {whole[0] / base:.2f} times label propagation, each further one {each / base:.2f} times (mean "
        f"of {more}), which is {work:.0f} GFLOP of V's and D's convolutions at {work / each:.0f} GFLOP/s; the same "
        f"convolutions with nothing between them run at {work / alone * more:.0f} GFLOP/s, and take "
        f"{alone / more / base:.2f} times label propagation; a plain bf16 product of 2048 x 2048 matrices reaches "
        f"{matrix_product_rate() / 1e9:.0f} GFLOP/s"
    )
    return result


def of_random_weights(rounds: int, widths: dict) -> VideoSegmenter:
    segmenter = full(VideoSegmenter(network(**widths), rounds=rounds, crop_margin=MARGIN))
    return annotated_windows(segmenter, 1) if rounds else segmenter


def parts(title: str, segmenter: VideoSegmenter) -> Parts:
    """(d) Where the time of a frame goes, nothing overlapped."""
    spent: dict[str, float] = dict.fromkeys(("decode", *METHODS, "write mask", "write overlay"), 0.0)

    def timing(part: str, work: Callable) -> Callable:
        def clocked(*arguments, **named):
            start = time.perf_counter()
            result = work(*arguments, **named)
            spent[part] += time.perf_counter() - start
            return result

        return clocked

    for part, names in METHODS.items():
        for name in names:
            setattr(segmenter, name, timing(part, getattr(segmenter, name)))
    source, frames = clip().source, range(22, 32)
    read = timing("decode", source.read)
    save = timing("write mask", write_mask)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, VideoWriter(Path(folder) / "overlay.mp4", 24) as writer:
        show = timing("write overlay", lambda frame, ids: writer.write(overlay(frame, ids)))
        for t in frames:
            frame = read([t])[0]
            ids = segmenter.step(frame)
            save(Path(folder) / f"{t}.png", ids)
            show(frame, ids)
    total = time.perf_counter() - start
    spent["rest"] = total - sum(spent.values())
    return Parts(
        f"{title}, a frame of {clip().name}, one object",
        {part: seconds / len(frames) for part, seconds in spent.items() if seconds},
        "measured one after another; `vos-umec segment` decodes and writes beside the rest"
        + (
            f"; embed is V on the new mask, decode mask is V and D, {segmenter.rounds} rounds"
            if segmenter.rounds
            else ""
        ),
    )


def curves() -> list[Curve]:
    """How time and memory grow."""
    net, narrow = network(), network(**NARROW)
    lengths = {n: n for n in (50, 100, 200, 500)}

    def frames(n: int) -> Callable[[], None]:
        def work() -> None:
            segmenter = VideoSegmenter(small, rounds=1, short_side=96)
            prompt = iter([clip().objects(0, 1)])
            for frame, _ in zip(clip().to_and_fro(0), range(lengths[n]), strict=False):
                segmenter.step(frame, next(prompt, None))

        return work

    small = build_network("tiny").eval()

    def references(N: int) -> Callable[[], np.ndarray]:
        return stepping(full(VideoSegmenter(net, rounds=0, references=N)))

    def many(K: int) -> Callable[[], np.ndarray]:
        segmenter = full(VideoSegmenter(narrow, crop_margin=MARGIN), K)
        return stepping(annotated_windows(segmenter, K))

    def size(megapixels: float) -> Callable[[], np.ndarray]:
        return stepping(full(VideoSegmenter(net, rounds=0, short_side=sizes[megapixels])))

    sizes = {round(s * s * 854 / 480 / 1e6, 2): s for s in (240, 360, 480, 720)}
    by_frames = scale("Whole video, small network, 96 x 171, one round", "frames", list(lengths), frames, repeats=1)
    by_frames.notes = (
        f"the reference memory is filled in the first case, and nothing grows after that. Processes that segment "
        f"{clip().name}, played forwards and backwards, one object: {held_alone('narrow', 100, 500)}; "
        f"{held_alone('paper', 41, 61)} (wanted: no growth over 500 frames, under 1638 MiB)"
    )
    by_references = scale(f"Label propagation, a frame of {clip().name}", "references", (5, 10, 20, 40), references)
    constant = statistics.median(timed(first_alone) for first_alone in [references(0)] * 5)
    beyond(by_references, constant, "encoding, and reading the first frame, which has no window,")
    by_objects = scale(f"Whole model, Dv = 128, a frame of {clip().name}", "objects", (1, 2, 4, 8), many)
    constant = statistics.median(timed(no_object) for no_object in [references(REFERENCES)] * 5)
    beyond(by_objects, constant, "encoding and reading the affinity, done once for all objects,")
    by_size = scale("Label propagation, a frame, first + 20", "megapixels", list(sizes), size)
    by_size.notes = "the first frame has no window, so its time grows with the square of the pixels"
    return [by_frames, by_references, by_objects, by_size]


def alone(widths: dict, moments: list[int]) -> None:
    """Segment a video and nothing else in this process; print what it holds after some numbers of frames, in MiB.

    At last what it held at most.
    """
    segmenter = VideoSegmenter(network(**widths), crop_margin=MARGIN)
    frames, held = clip().to_and_fro(0), []
    segmenter.step(next(frames), clip().objects(0, 1))
    segmenter = annotated_windows(segmenter, 1)
    for frame, count in zip(frames, range(2, moments[-1] + 1), strict=False):
        segmenter.step(frame)
        if count in moments:
            held.append(resident_mib())
    # Not getrusage: its maximum is handed down from the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = max(int(status["VmHWM"].split()[0]) / 1024, *held)  # the two counts are kept apart, and a little off
    print(*map(round, held), round(peak))


def held_alone(name: str, *moments: int) -> str:
    """What `alone` found in a process of its own, in words."""
    command = [sys.executable, __file__, "alone", name, *map(str, moments)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *held, peak = said.split()
    after = ", ".join(f"{mib} MiB after {count} frames" for mib, count in zip(held, moments, strict=True))
    return f"whole model, Dv = {WIDTHS[name]['Dv']}: resident {after}, {peak} MiB at its peak"


def beyond(curve: Curve, constant: float, what: str) -> None:
    """Note what does not grow, and how the rest does."""
    rest = slope(curve.sizes, [seconds - constant for seconds in curve.seconds])
    curve.notes = (
        f"{what} takes {show_seconds(constant)} whatever the number; the rest grows with exponent {rest:.2f}"
    )


def run() -> list[Result]:
    """All of them."""
    results: list[Result] = [propagation()]
    window = f"V and D cropped to the object and {MARGIN} cells around it"
    results.append(objects(f"Dv = 512 (the paper preset's widths), {window}", PAPER, MARGIN))
    results.append(objects(f"Dv = 128, D's widths 128, 64, 64, {window}", NARROW, MARGIN))
    results.append(objects("Dv = 128, D's widths 128, 64, 64, on the whole frame", NARROW, None, (1, 2)))
    results.append(parts("Label propagation", of_random_weights(0, NARROW)))
    results.append(parts("Whole model, Dv = 512", of_random_weights(3, PAPER)))
    results.append(parts("Whole model, Dv = 128", of_random_weights(3, NARROW)))
    results.append(parts("The shipped model", full(load_segmenter())))
    results.append(parts("The shipped model with --fast", full(load_segmenter(fast=True))))
    results += curves()
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        alone(WIDTHS[sys.argv[2]], [int(count) for count in sys.argv[3:]])
    else:
        main(run)
