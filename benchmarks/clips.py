"""Training clips of video files and frame folders, against plain decord and Pillow; before and after `prepare`."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest import mock

import av
import numpy as np
import torch
from harness import Comparison, Parts, Result, compare, main, scale
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from vos_umec.data.clips import ClipDataset, ClipSampler, clip_loader
from vos_umec.data.index import scan
from vos_umec.data.preparation import prepare
from vos_umec.data.synthetic import SyntheticVOS
from vos_umec.io import pyav
from vos_umec.io.container import FrameWalk, PictureMaker, decoding_threads, open_container
from vos_umec.io.decord import import_decord
from vos_umec.io.frames import Frame, resized
from vos_umec.io.source import open_source

T, GAP = 5, 2
CLIPS, ROUNDS = 12, 3
# mpeg4 with a key frame every 12, h264 with 61, 240, one alone, and 150, small and of P frames alone, of which none
# can be passed over: of all files the one with the least to gain; none at odds with decord
REAL = (
    "davis_train/bus.avi",
    "various/bikes.mp4",
    "various/bulk-water.mov",
    "various/bedroom.mp4",
    "various/flipping_a_pancake.mkv",
)
MISREAD = "various/teddy.mp4"


def draw(frames: int, clips: int = CLIPS, length: int = T) -> list[list[int]]:
    """Random clips of a video."""
    starts = np.random.default_rng(0).integers(0, frames - (length - 1) * GAP, clips)
    return [list(range(start, start + length * GAP, GAP)) for start in starts.tolist()]


def psnr(a: Frame, b: Frame) -> float:
    """Peak signal to noise ratio in dB."""
    return float(10 * np.log10(255**2 / max(((a.astype(np.float32) - b) ** 2).mean(), 1e-9)))


def alike(least: float) -> Callable[[dict[str, Any]], str]:
    """Check that every way shows what the first does."""

    def check(results: dict[str, Any]) -> str:
        ours, *others = results.values()
        values = [psnr(ours, other) for other in others]
        assert min(values) > least, values
        return f"same frames, at {min(values):.1f} dB or more from ours"

    return check


def read(
    path: Path, clips: Sequence[Sequence[int]], size: tuple[int, int], threads: int | None = None
) -> Callable[[], Frame]:
    """Our way: one source, kept open; by as many threads as the package takes, or as a loader worker would."""
    source = open_source(path)
    with mock.patch.object(pyav, "decoding_threads", return_value=threads or decoding_threads()):
        source.read([0], size)  # threads are chosen where the file is opened
    return lambda: np.concatenate([source.read(clip, size) for clip in clips])


def shrink(pictures: Frame, size: tuple[int, int]) -> Frame:
    """Whole frames scaled by Pillow."""
    images = [Image.fromarray(picture) for picture in pictures]
    return np.stack([np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)) for image in images])


def plain_decord(
    path: Path, clips: Sequence[Sequence[int]], size: tuple[int, int], scaled: bool, threads: int
) -> Callable[[], Frame]:
    """decord as its own page shows it: one reader, kept open, `get_batch` of each clip."""
    decord = import_decord()
    options = {"width": size[1], "height": size[0]} if scaled else {}
    reader = decord.VideoReader(str(path), num_threads=threads, **options)

    def work() -> Frame:
        batches = [reader.get_batch(clip).asnumpy() for clip in clips]
        return np.concatenate([batch if scaled else shrink(batch, size) for batch in batches])

    return work


def against_decord(path: Path, label: str, short_side: int = 256) -> Comparison:
    """One file, random clips, one thread as in a loader worker, and all cores as in a process of its own."""
    source = open_source(path)
    clips, size = draw(len(source)), resized(source.size, short_side)
    all_cores = "ours (all cores)", "decord, width= height= (all cores)"
    ways = {
        "ours (1 thread)": read(path, clips, size, 1),
        "decord, whole frames + Pillow (1 thread)": plain_decord(path, clips, size, False, 1),
        "decord, width= height= (1 thread)": plain_decord(path, clips, size, True, 1),
        all_cores[0]: read(path, clips, size),
        all_cores[1]: plain_decord(path, clips, size, True, 0),
    }
    title = f"{CLIPS} random clips of {label}, {T} frames, gap {GAP}, short side {short_side}"
    result = compare(
        title, ways, alike(36), rounds=ROUNDS, wanted="at least 1.3 times plain decord with random seeks"
    )
    ours, theirs = (result.seconds[name] for name in all_cores)
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    result.notes = (
        f"all cores against all cores, decord takes {np.median(ratios):.2f} times our time "
        f"({min(ratios):.2f} to {max(ratios):.2f}); {passed_over(path)}"
    )
    return result


def passed_over(path: Path) -> str:
    """What there is to gain over a reader that decodes all: h264 frames that no other is made from."""
    container, stream = open_container(path)
    with container:
        stream.codec_context.skip_frame = "NONREF"
        needed = sum(1 for _ in container.decode(stream))
    share = 100 * (1 - needed / len(open_source(path))) if stream.codec_context.name == "h264" else 0
    return f"{share:.0f} % of its frames can be skipped in decoding"


class _Reads(Dataset[torch.Tensor]):
    """Clips of several files, for a plain DataLoader; each worker keeps its readers open."""

    def __init__(self, paths: Sequence[Path], ours: bool) -> None:
        self.sources = [open_source(path) for path in paths]
        self.clips = [(file, clip) for file, source in enumerate(self.sources) for clip in draw(len(source))]
        self.order = np.random.default_rng(1).permutation(len(self.clips)).tolist()
        self.ours = ours
        self.readers: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: int) -> torch.Tensor:
        file, clip = self.clips[self.order[item]]
        source = self.sources[file]
        size = resized(source.size, 256)
        if self.ours:
            return torch.from_numpy(source.read(clip, size)).float().mean((1, 2, 3))
        if file not in self.readers:
            options = {"width": size[1], "height": size[0]}
            self.readers[file] = import_decord().VideoReader(str(source.path), **options)
        return torch.from_numpy(self.readers[file].get_batch(clip).asnumpy()).float().mean((1, 2, 3))


def in_workers(paths: Sequence[Path]) -> Comparison:
    """All files in turn through two loader workers, decord with its default threads."""

    def loader(ours: bool) -> Callable[[], torch.Tensor]:
        batches = DataLoader(_Reads(paths, ours), 4, num_workers=2, persistent_workers=True, timeout=120)
        return lambda: torch.cat(list(batches))

    def check(results: dict[str, torch.Tensor]) -> str:
        ours, theirs = results.values()
        assert (ours - theirs).abs().max() < 2
        return "same frames, by their mean brightness"

    return compare(
        f"{len(paths)} files x {CLIPS} random clips in random order through 2 loader workers, short side 256",
        {"ours": loader(True), "decord, width= height=, default threads": loader(False)},
        check,
        rounds=ROUNDS,
        wanted="at least 1.3 times plain decord with random seeks",
        notes="readers kept open in each worker",
    )


def prepared(original: Path, copy: Path, short_side: int) -> Comparison:
    """The long-GOP file before and after `vos-umec prepare`."""
    source = open_source(original)
    clips, size = draw(len(source)), resized(source.size, short_side)
    ways = {
        "after prepare (1 thread)": read(copy, clips, size),
        "before it (1 thread)": read(original, clips, size, 1),
        "decord, whole frames + Pillow (1 thread), before it": plain_decord(original, clips, size, False, 1),
        "decord, width= height= (1 thread), before it": plain_decord(original, clips, size, True, 1),
    }
    title = f"{CLIPS} random clips of a 480p h264 file, key frame every 250, short side {short_side}"
    return compare(title, ways, alike(33), rounds=ROUNDS, wanted="at least 5 times faster than before")


def folder(path: Path) -> Comparison:
    """A folder of JPEG frames against Pillow: decode, then resize."""
    source = open_source(path)
    size, count = resized(source.size, 256), min(30, len(source))
    files = sorted(path.glob("*.jp*g"))[:count]

    def pillow() -> Frame:
        images = [Image.open(file).convert("RGB") for file in files]
        return np.stack([np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)) for image in images])

    ways = {"ours": lambda: source.read(range(count), size), "Pillow": pillow}
    height, width = source.size
    return compare(f"{count} JPEG frames of {height} x {width} to short side 256", ways, alike(40), rounds=9)


def parts(path: Path, label: str) -> Parts:
    """Where the time of one clip goes, in a file opened anew and a clip two thirds into it."""
    source = open_source(path)
    facts = source.facts
    start = 2 * len(source) // 3
    times = np.cumsum(np.repeat(*np.array(facts.stamps).T))
    wanted = set(times[start : start + T * GAP : GAP].tolist())
    key = max(k for k in facts.keys if k <= start)
    seconds = dict.fromkeys(
        ("open", "seek", "decode up to the clip", "decode the clip", "scale, RGB", "batch"), 0.0
    )
    clock = perf_counter()

    def lap(part: str) -> None:
        nonlocal clock
        now = perf_counter()
        seconds[part] += now - clock
        clock = now

    container, stream = open_container(path)
    lap("open")
    container.seek(int(times[key]), stream=stream)
    lap("seek")
    maker, size, pictures = PictureMaker(), resized(source.size, 256), []
    passes_over = None
    if stream.codec_context.name == "h264":
        passes_over = lambda packet: packet.pts not in wanted and packet.pts < max(wanted)  # noqa: E731
    for frame in FrameWalk(container, stream, passes_over):
        lap("decode up to the clip" if frame.pts < min(wanted) else "decode the clip")
        if frame.pts in wanted:
            pictures.append(maker.make(frame, size))
            lap("scale, RGB")
        if len(pictures) == T:
            break
    torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    lap("batch")
    container.close()
    return Parts(f"one clip of {label}, {T} frames, short side 256", seconds)


def curves(long: Path, copies: dict[int, Path]) -> list[Result]:
    """Time against clips, frames of a clip, pixels and workers."""
    at_319 = scan(copies[319], warn=False)

    def clips(count: int) -> Callable[[], Any]:
        data = ClipDataset(at_319, clips_per_video=count)
        return lambda: [data[i]["frames"].shape for i in range(count)]

    def frames(length: int) -> Callable[[], Any]:
        data = ClipDataset(at_319, clip_length=length, clips_per_video=8)
        return lambda: [data[i]["frames"].shape for i in range(8)]

    def pixels(short_side: int) -> Callable[[], Any]:
        data = ClipDataset(scan(copies[short_side], warn=False), short_side=short_side, clips_per_video=8)
        return lambda: [data[i]["frames"].shape for i in range(8)]

    def workers(count: int) -> Callable[[], Any]:
        data = ClipDataset(scan(long.parent, warn=False), short_side=256, clips_per_video=24)
        loader = clip_loader(ClipSampler(data), batch_size=4, num_workers=count)
        return lambda: [batch["frames"].shape for batch in loader]

    sides = {side * round(side * 854 / 480): side for side in sorted(copies)}
    areas = scale("8 clips from copies of their own size", "pixels", list(sides), lambda n: pixels(sides[n]))
    areas.notes = "below 1: the opening of a file and its header take the same at any size"
    return [
        scale("Clips from a prepared copy, short side 319", "clips", [4, 8, 16, 32], clips),
        scale("8 clips from a prepared copy, short side 319", "frames of a clip", [2, 4, 8, 16], frames),
        areas,
        scale(
            "24 clips of the long-GOP file, short side 256", "loader workers", [1, 2], workers, expected=-1,
            notes="the process that asks for the clips takes part of one of the two cores; the memory is its own",
        ),
    ]  # fmt: skip


def make_long(path: Path, frames: Frame, count: int = 500) -> None:
    """A long-GOP file: frames to and fro, by x264 with its own settings, a key frame every 250."""
    turns = [min(i, 2 * len(frames) - 2 - i) for i in range(2 * len(frames) - 2)]
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.gop_size = 250
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(frames[turns[i % len(turns)]], "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def run() -> list[Result]:
    """All of it, on real clips where VOS_UMEC_DATA names them, else on made ones."""
    data = Path(os.environ.get("VOS_UMEC_DATA", ""), "videos")
    real = [data / name for name in REAL if (data / name).is_file()]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        made = SyntheticVOS(place / "made", train_videos=1, val_videos=1, frames=60, size=(480, 854))
        if not real:
            made.prepare()
        files = real or [entry.path for entry in scan(made.train_root, warn=False)]
        first = open_source(files[0])
        long = place / "long" / "long.mp4"
        make_long(long, first.read(range(min(80, len(first)))))
        copies = {side: place / f"copy{side}" for side in (160, 226, 319, 452)}
        for side, copy in copies.items():
            prepare(long.parent, copy, side)
        # First, for the workers are forked: a decord reader of this process could hang them.
        workers = in_workers([*files, long])
        results: list[Result] = [prepared(long, copies[319] / "long.mp4", side) for side in (256, 319)]
        results += [against_decord(path, path.name) for path in files]
        results.append(against_decord(long, "a 480p h264 file, key frame every 250"))
        results.append(workers)
        if (data / MISREAD).is_file():
            count, counted = len(open_source(data / MISREAD)), len(import_decord().VideoReader(str(data / MISREAD)))
            results[
                -1
            ].notes += f"; left out {Path(MISREAD).name}: decord counts {counted} frames, {count} are there"
        shiba = data / "various" / "shiba_frames"
        results.append(folder(shiba if shiba.is_dir() else copies[452] / "long.mp4"))
        parts(long, "")  # the first clip of a process pays for torch's start
        results += [parts(files[0], files[0].name), parts(long, "the long-GOP file")]
        return results + curves(long, copies)


if __name__ == "__main__":
    main(run)
