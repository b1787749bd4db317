"""Found video: seeded mutations of real and odd clips must end in frames, rightly counted, or in one clear error.

`python -m soak_found_video` is the process that looks into one file; see `vos_umec.data.processes`.
"""

import logging
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
from soak_row import Row

from vos_umec.data.probe import FACTS, describe
from vos_umec.data.processes import ask_all, serve
from vos_umec.io.frames import SourceFacts
from vos_umec.io.source import open_source
from vos_umec.io.video_writer import VideoWriter

MOST_SECONDS, MOST_MEMORY = 20.0, 2048  # of one file; MiB
LARGEST = 2_000_000  # bytes of a clip that is mutated
ROUND = 24  # mutations at a time
ENDINGS = (".mp4", ".avi", ".mkv", ".ts", ".h264", ".mxf", ".gif", ".mjpeg", ".mpg", ".ogv", ".asf")
# Marks in front of a size, and how far behind them its width and height begin.
SIZES = ((b"avc1", 28, 30), (b"mp4v", 28, 30), (b"tkhd", 80, 84), (b"strf", 12, 16), (b"GIF8", 6, 8),
         (b"\x9d\x01\x2a", 3, 5), (b"\xff\xc0\x00\x11\x08", 7, 5))  # fmt: skip


def run(seed: int, minutes: float, folder: Path) -> list[Row]:
    """Mutate clips for some minutes, at least one round, and look into each one in another process."""
    rng, end = random.Random(seed), time.monotonic() + 60 * minutes
    logging.getLogger("vos_umec").setLevel(logging.ERROR)  # every second file is damaged, and said to be
    clips = _clips(folder)
    # Odd files come first, as they are.
    waiting = (
        [(f"{clip.name} as it is", clip) for clip in clips if clip.parent.name == "odd"] if minutes > 1 else []
    )
    kinds: Counter[str] = Counter()
    lost: list[str] = []
    seconds, memory, crashes = [0.0], [0], 0
    while True:
        mutated = [_mutate(rng, clips, folder / f"{number:02d}") for number in range(ROUND)] + waiting
        waiting = []
        for (what, path), answer in zip(mutated, _look_into([path for _, path in mutated]), strict=True):
            kinds["error" if "reason" in answer else "frames"] += 1
            crashes += "crashed" in answer.get("reason", "")
            seconds.append(answer.get("seconds", 0.0))
            memory.append(answer.get("memory", 0))
            if wrong := _wrong(answer):
                lost.append(f"{what}: {wrong}")
            if path.parent == folder:
                path.unlink()
        if time.monotonic() > end:
            break
    for line in lost:
        print(f"found video, seed {seed}: {line}", file=sys.stderr)
    total = kinds.total()
    figures = (
        f"{kinds['frames']} in frames, {kinds['error']} in one error, {crashes} crashes of a decoder contained; "
        f"at most {max(seconds):.1f} s and {max(memory)} MiB a file"
    )
    return [Row("found video", total, total - len(lost), len(lost), figures)]


def look(path: str) -> dict[str, Any]:
    """Describe a file as the index does, read frames here and there, and count them in the plainest way."""
    start = time.monotonic()
    answer = describe(path)
    if "reason" not in answer:
        source = open_source(path, SourceFacts(**{name: answer[name] for name in FACTS}))
        last = len(source) - 1
        source.read([last, 0, last // 2])
        source.read([last // 3, last], (32, 48))
        answer = {"frames": len(source), **_count(path)}
    answer["seconds"] = time.monotonic() - start
    answer["memory"] = _peak_memory()
    return answer


def _count(path: str) -> dict[str, Any]:
    """Frames that FFmpeg decodes up to the first error, and whether there was one."""
    counted = 0
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = container.streams.best("video")
        stream.thread_type = "NONE"
        try:
            for _ in container.decode(stream):
                counted += 1
        except (av.error.FFmpegError, OSError, ValueError, IndexError):
            return {"counted": counted, "damaged": True}
    return {"counted": counted, "damaged": False}


def _wrong(answer: dict[str, Any]) -> str | None:
    """What is wrong with an answer; None if nothing is."""
    reason = answer.get("reason", "")
    if "\n" in reason or reason.partition(":")[0].endswith(("Error", "Exception")):
        return f"an error that is not ours: {reason}"
    if "no answer in" in reason or "no frame was decoded" in reason or answer.get("seconds", 0) > MOST_SECONDS:
        return f"it hangs: {reason or answer['seconds']}"
    if answer.get("memory", 0) > MOST_MEMORY:
        return f"it takes {answer['memory']} MiB"
    if "frames" in answer:
        least, equal = answer["counted"], not answer["damaged"]
        if answer["frames"] < least or (equal and answer["frames"] != least):
            return f"{answer['frames']} frames, of which {least} can be decoded"
    return None


def _look_into(paths: list[Path]) -> list[dict[str, Any]]:
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return list(ask_all("soak_found_video", [str(path) for path in paths], [4 * MOST_SECONDS] * len(paths), 2))


def _clips(folder: Path) -> list[Path]:
    """Small clips of `VOS_UMEC_DATA`, or one that is made."""
    data = Path(os.environ.get("VOS_UMEC_DATA") or folder)
    found = [*data.glob("odd/*"), *data.glob("videos/various/*.*"), *data.glob("cases/videos_passed_over/videos/*")]
    clips = sorted(path for path in found if path.is_file() and path.stat().st_size < LARGEST)
    if clips:
        return clips
    made = folder / "clips" / "made.mp4"
    with VideoWriter(made, fps=25, gop=8) as writer:
        for t in range(30):
            writer.write(np.random.default_rng(t).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    return [made]


def _mutate(rng: random.Random, clips: list[Path], target: Path) -> tuple[str, Path]:
    """Write a broken copy of a clip; what was done, and the file."""
    clip = rng.choice(clips)
    data, end = bytearray(clip.read_bytes()), clip.suffix
    kind = rng.choice(["cut", "bits", "zeros", "header", "ending", "swapped", "huge"])
    if kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "bits":
        for _ in range(rng.choice([1, 10, 100, 1000])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        start = rng.randrange(min(len(data), 2048))
        data[start : start + 256] = bytes(len(data[start : start + 256]))
    elif kind == "header":
        for _ in range(30):
            data[rng.randrange(min(len(data), 3000))] = rng.randrange(256)
    elif kind == "ending":
        end = rng.choice(ENDINGS)
    elif kind == "swapped":  # the rest of another clip, as where streams or files are mixed up
        other = rng.choice(clips).read_bytes()
        data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]
    else:
        _make_huge(data)
    path = target.with_suffix(end)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"{clip.name}, {kind}", path


def _make_huge(data: bytearray) -> None:
    """Let every header that states a size state 12336 x 12336, whose bytes are 0x30 in either order."""
    for mark, width, height in SIZES:
        at = data.find(mark)
        while 0 <= at < len(data) - 90:
            data[at + width : at + width + 2] = data[at + height : at + height + 2] = b"00"
            at = data.find(mark, at + 90)


def _peak_memory() -> int:
    """MiB, of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone; getrusage counts what the process held before it, too
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    serve(look)
