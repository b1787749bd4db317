"""Long and large videos through `VideoSegmenter`: memory and time stay, whatever the length.

Run alone: python benchmarks/soak_long_video.py [SEED [MINUTES]]
"""

import multiprocessing
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from soak_row import Row

from vos_umec.errors import VideoReadError
from vos_umec.inference.load import load_segmenter
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.io.pipeline import WriteBehind, read_ahead
from vos_umec.models.factory import build_network

FRAMES, CORRECTIONS, WARM = 10_000, 200, 100
GROWTH, SLOWER = 0.05, 1.25
"""Most that resident memory may grow after the first frames, and the median processor time of a frame."""
MEMORY_4K = 2.5
"""GiB at most, in all, for 4K frames of one object at the shipped model's own settings."""
SIZE = (32, 48)


def run(seed: int, minutes: float, folder: Path) -> list[Row]:
    """Soak for so many minutes at most.

    Args:
        seed: Seed of the videos and of the corrections.
        minutes: Time for all parts; the long videos are cut short when it is over.
        folder: Where masks are written.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    most = 60 * minutes
    return [
        _long("long video", rng, FRAMES, most * 0.35, corrections=0),
        _long("long video with corrections", rng, FRAMES, most * 0.35, corrections=CORRECTIONS),
        _many_objects(most * 0.1),
        _backward(),
        _ends_early(rng, folder),
        _large(seed),
    ]


def _segmenter(**settings: object) -> VideoSegmenter:
    return VideoSegmenter(build_network("tiny"), **{"rounds": 1, "references": 5, **settings})


def _scene(t: int, objects: int, hidden: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A frame (32, 48, 3) of squares that go to and fro, and their ids; while `hidden` every second one is away."""
    ids = np.zeros(SIZE, np.uint8)
    for i in range(objects):
        if hidden and i % 2:
            continue
        y, x = 4 * (i // 10) % 28, (5 * (i % 10) + abs(t % 16 - 8)) % 44
        ids[y : y + 4, x : x + 4] = i + 1
    frame = np.stack([ids * 5, ids * 37, 255 - ids], axis=2)
    return frame, ids


def _resident() -> float:
    """Resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _long(part: str, rng: np.random.Generator, frames: int, seconds: float, corrections: int) -> Row:
    objects = 3 if corrections else 1
    segmenter, begun, lost = _segmenter(rounds=0 if corrections else 1), time.monotonic(), 0
    corrected = set(rng.choice(np.arange(1, frames), corrections, replace=False).tolist()) if corrections else set()
    times: list[float] = []
    first = last = 0.0
    done = 0
    for t in range(frames):
        if time.monotonic() - begun > seconds and t > 2 * WARM:
            break
        frame, ids = _scene(t, objects)
        mask = None
        if t == 0:
            mask = ids
        elif t in corrected:  # of one object
            mask = np.where(ids == 1 + int(rng.integers(objects)), ids, 0).astype(np.uint8)
            done += bool(mask.any())
        start = time.process_time()
        found = segmenter.step(frame, mask)
        times.append(time.process_time() - start)
        lost += found.shape != SIZE
        if t == WARM:
            first = _resident()
        if t >= WARM and t % 100 == 0:
            last = max(last, _resident())
    bound = 1 + objects + segmenter.corrections
    early, late = (float(np.median(part)) for part in (times[WARM : 3 * WARM], times[-2 * WARM :]))
    growth, slower = last / first - 1, late / early
    # Corrections fill memory first, so a frame has more to search late than early.
    failed = [growth >= GROWTH, not corrections and slower >= SLOWER, segmenter.memory.permanent > bound]
    lost += sum(failed)
    figures = (
        f"{len(times)} frames, {done} corrections, {first:.0f} MiB, growth {100 * growth:.1f} %, "
        f"{1000 * early:.1f} to {1000 * late:.1f} ms a frame, {segmenter.memory.permanent} permanent (most {bound})"
    )
    return Row(part, len(times), len(times) - lost, lost, figures)


def _many_objects(seconds: float) -> Row:
    """50 objects, of which every second one vanishes for 20 frames and returns."""
    segmenter, begun, objects = _segmenter(rounds=0), time.monotonic(), 50
    lost = 0
    found = np.zeros(SIZE, np.uint8)
    for t in range(80):
        if time.monotonic() - begun > seconds and t > 60:
            break
        frame, ids = _scene(t, objects, hidden=20 <= t < 40)
        found, p = segmenter.step(frame, ids if t == 0 else None, return_probabilities=True)
        lost += not np.isfinite(p).all() or p.shape[0] != objects + 1
    returned = len(set(np.unique(found).tolist()) & set(range(2, objects + 1, 2)))
    return Row(
        "50 objects that vanish", objects, objects - lost, lost, f"{returned} of 25 followed after they returned"
    )


def _backward() -> Row:
    """A video that is read from its last frame to its first, as views of the array that holds it."""
    network = build_network("tiny")
    frames, ids = np.stack([_scene(t, 3)[0] for t in range(12)]), _scene(11, 3)[1]
    results = []
    for video in (frames[::-1], frames[::-1].copy()):
        segmenter = VideoSegmenter(network, rounds=1, references=5)
        results.append([segmenter.step(frame, None if t else ids) for t, frame in enumerate(video)])
    lost = sum(not np.array_equal(a, b) for a, b in zip(*results, strict=True))
    return Row("backward", 12, 12 - lost, lost, "the masks of the reversed video")


class _Broken:
    """A source that promises more frames than it has, and takes its time for some."""

    size, fps, path = SIZE, 24.0, Path("broken")

    def __init__(self, frames: int, ends: int, stall: float) -> None:
        self.frames, self.ends, self.stall = frames, ends, stall

    def __len__(self) -> int:
        return self.frames

    def read(self, indices: range) -> np.ndarray:
        if max(indices) >= self.ends:
            raise VideoReadError(self.path, f"frame {self.ends} cannot be decoded")
        time.sleep(self.stall if 8 in indices else 0)
        return np.stack([_scene(t, 3)[0] for t in indices])


def _ends_early(rng: np.random.Generator, folder: Path) -> Row:
    """Sources that stall and end early: every mask until then is written, whole and right."""
    injected, lost = 5, 0
    for number in range(injected):
        ends, segmenter = int(rng.integers(4, 30)), _segmenter()
        place, whole = folder / f"ends_early_{number}", {}
        try:
            with WriteBehind() as writer:
                for t, frame in read_ahead(_Broken(40, ends, stall=0.3), batch=1):
                    whole[t] = segmenter.step(frame, None if t else _scene(0, 3)[1])
                    writer.put(write_mask, place / f"{t:05d}.png", whole[t])
            lost += 1  # it must not end in peace
        except VideoReadError:
            # The writer drops what waits when it fails; what is there must be whole.
            written = sorted(place.glob("*"))
            right = all(np.array_equal(read_mask(path), whole[int(path.stem)]) for path in written)
            lost += not right or len(whole) != ends or any(path.suffix != ".png" for path in written)
    return Row(
        "sources that stall and end", injected, injected - lost, lost, "every written mask is whole and right"
    )


def _peak(results: "multiprocessing.Queue[float]", seed: int) -> None:
    """4K frames through the shipped model, in a process of its own: peak memory in GiB."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (2160, 3840, 3), dtype=np.uint8)
    mask = np.zeros(frame.shape[:2], np.uint8)
    mask[500:1500, 800:2400] = 1
    segmenter = load_segmenter(rounds=1)
    for t in range(3):
        segmenter.step(np.roll(frame, 8 * t, axis=1), None if t else mask)
    # Not ru_maxrss, which a process inherits from the one that starts it.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    results.put(int(peak) / 2**20)


def _large(seed: int) -> Row:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_peak, args=(results, seed))
    process.start()
    process.join(900)
    process.kill()
    peak = results.get(timeout=5) if process.exitcode == 0 else float("inf")
    lost = int(peak > MEMORY_4K)
    return Row("4K", 1, 1 - lost, lost, f"peak {peak:.2f} GiB, at most {MEMORY_4K:g}")


if __name__ == "__main__":
    words = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        for row in run(int(words[0]) if words else 0, float(words[1]) if words[1:] else 5.0, Path(temporary)):
            print(" | ".join(map(str, row)), flush=True)
