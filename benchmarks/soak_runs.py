"""What the parts of the soak share that stop commands: data, commands in processes of their own, whole files.

A command runs in a process that is forked from one which has imported everything (`multiprocessing`'s fork server),
so that forty of them start in seconds.
"""

import io
import json
import logging
import multiprocessing
import os
import re
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Timer

import numpy as np
from PIL import Image

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["soak_preload"])
LIMIT = 600.0
"""Seconds after which a command counts as hanging."""


SMALL = ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.enable_progress_bar=false"]


def make_data(folder: Path, seed: int, videos: int = 3, frames: int = 8, size: tuple[int, int] = (64, 96)) -> Path:
    """A data set in the layout of DAVIS, of squares that move over noise; also videos to train on."""
    rng = np.random.default_rng(seed)
    for number in range(videos):
        noise = rng.integers(0, 160, (*size, 3), dtype=np.uint8)
        row, column = rng.integers(4, 20, 2)
        for t in range(frames):
            frame, ids = noise.copy(), np.zeros(size, np.uint8)
            part = np.s_[row : row + 24, column + 3 * t : column + 3 * t + 24]
            frame[part], ids[part] = rng.integers(200, 255, 3), 1
            for kind, picture in (("JPEGImages", Image.fromarray(frame)), ("Annotations", _indexed(ids))):
                path = folder / kind / f"v{number}" / f"{t:05d}.{'jpg' if kind == 'JPEGImages' else 'png'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
    return folder


def _indexed(ids: np.ndarray) -> Image.Image:
    from vos_umec.io.png import indexed_png

    return Image.open(io.BytesIO(indexed_png(ids)))


class Fault:
    """Kills its own process, or fails it, at one moment: when a file is opened, renamed, or after some time.

    Args:
        event: Audit event of Python, such as "open" or "os.rename"; "" for a moment of time alone.
        path: Regular expression for what the event's arguments hold.
        count: Which of the matching events it is, from 1 on.
        delay: Seconds from there to the kill, or from the start where there is no event.
    """

    def __init__(self, event: str = "", path: str = "", count: int = 1, delay: float = 0.0) -> None:
        self.event, self.path, self.count, self.delay = event, path, count, delay

    def arm(self) -> None:
        """Wait for the moment."""
        if not self.event:
            self._after_delay()
            return
        matching = re.compile(self.path)

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event == self.event and self.count and matching.search(" ".join(map(str, arguments))):
                self.count -= 1
                if not self.count:
                    self._after_delay()

        sys.addaudithook(hook)

    def _after_delay(self) -> None:
        if self.delay:
            timer = Timer(self.delay, _die)
            timer.daemon = True
            timer.start()
        else:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _command(
    words: list[str], place: str, output: str, fault: Fault | None, prepare: Callable[[], None] | None
) -> None:
    os.chdir(place)
    with Path(output).open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = ["vos-umec"]
    multiprocessing.set_start_method("fork", force=True)  # of loader workers, as where nobody has set any
    logging.getLogger().handlers.clear()
    from vos_umec.cli.main import main

    if prepare is not None:
        prepare()
    if fault is not None:
        fault.arm()
    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Done:
    """How a command ended: `code` (negative: the signal that killed it; None: it hung), `output`, `seconds`."""

    def __init__(self, process: BaseProcess, output: Path, seconds: float) -> None:
        self.code, self.output, self.seconds = process.exitcode, output.read_text(errors="replace"), seconds

    @property
    def one_line(self) -> str:
        """The line of its error, if it ended in one line; else empty."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines and "vos-umec: error: " in lines[-1] and "Traceback" not in self.output else ""


def run_command(
    words: Sequence[object],
    place: Path,
    fault: Fault | None = None,
    kill_after: float | None = None,
    prepare: Callable[[], None] | None = None,
) -> Done:
    """Run `vos-umec WORDS` in a folder, until it ends, kills itself, or is killed after some seconds."""
    output = place.with_suffix(".txt")  # beside the folder, which may be full
    process = CONTEXT.Process(target=_command, args=([*map(str, words)], str(place), str(output), fault, prepare))
    start = time.monotonic()
    process.start()
    process.join(LIMIT if kill_after is None else kill_after)
    if process.is_alive():
        process.kill()
        process.join()
        if kill_after is None:
            raise TimeoutError(f"vos-umec {' '.join(map(str, words))} ran for more than {LIMIT:.0f} s")
    return Done(process, output, time.monotonic() - start)


def broken_files(folder: Path) -> list[Path]:
    """Files below a folder that are not whole, of all kinds that a command would read again.

    Files that are being written have names that begin with a dot or lie in a folder `*.tmp`; no command reads them.
    """
    import av
    import torch

    broken = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part.endswith(".tmp") or part.startswith(".") for part in parts[:-1]):
            continue
        if path.name.endswith(".tmp"):
            continue
        try:
            if path.suffix == ".ckpt":
                torch.load(path, weights_only=True)
            elif path.suffix == ".npz":
                with np.load(path) as archive:
                    for name in archive.files:
                        archive[name]
            elif path.suffix in (".png", ".jpg"):
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".mp4":
                with av.open(str(path)) as video:
                    next(video.decode(video=0))
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".zip" and zipfile.ZipFile(path).testzip() is not None:
                broken.append(path)
        except Exception:  # of any kind: what matters is that it cannot be read
            broken.append(path)
    return broken


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    """The files below a folder that match a pattern, by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.glob(pattern))}


def same_weights(first: Path, second: Path) -> bool:
    """Whether two checkpoints have the same weights and the same state of the optimizer, bit for bit."""
    import torch

    a, b = (torch.load(path, weights_only=True) for path in (first, second))
    states = [
        [*checkpoint["state_dict"].values(), *(
            value for state in checkpoint["optimizer_states"][0]["state"].values() for value in state.values()
        )]
        for checkpoint in (a, b)
    ]  # fmt: skip
    return len(states[0]) == len(states[1]) and all(torch.equal(x, y) for x, y in zip(*states, strict=True))
