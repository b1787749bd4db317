"""What all frame sources share: facts about a video, sizes, reading in order, and handles that survive a fork."""

import ctypes
import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from vos_umec.errors import ConfigError, VideoReadError

Frame = npt.NDArray[np.uint8]
LONGEST = 16  # longer than so many times its height, a frame is no picture but a strip of pixels
DEFAULT_FPS = 24.0  # of frame folders and of files that state no rate; DAVIS was filmed at 24

_listeners: list[Callable[[float], object]] = []


def report_progress(seconds: float = 0.0) -> None:
    """Tell whoever listens that work on a video goes on; the next step may take so many seconds more."""
    for listener in _listeners:
        listener(seconds)


def listen_to_progress(listener: Callable[[float], object]) -> None:
    """Have `listener` called for each frame that is read: so a process that may hang can watch itself."""
    _listeners.append(listener)


@dataclass(frozen=True)
class SourceFacts:
    """What opening a video found, in plain values, so that an index can store it.

    With these facts `open_source` need not decode the whole video again to count its frames, and the reader can
    seek directly to key frames.

    Args:
        reader: The reader that is right for the video.
        frames: Number of readable frames, > 0.
        size: (H, W) in pixels, as displayed.
        fps: Frames per second, > 0.
        keys: Indices of the key frames of a video file, ascending.
        stamps: Time stamps of the frames as `pack_stamps` gives them; () if they cannot identify frames.
        left_out: Patterns of the names of pictures in a folder that are masks, not frames, as `mask_patterns` has
            them.
    """

    reader: Literal["folder", "decord", "pyav"]
    frames: int
    size: tuple[int, int]
    fps: float
    keys: tuple[int, ...] = ()
    stamps: tuple[tuple[int, int], ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        height, width = self.size  # JSON gives lists
        object.__setattr__(self, "size", (height, width))
        object.__setattr__(self, "keys", tuple(self.keys))
        object.__setattr__(self, "stamps", tuple((step, count) for step, count in self.stamps or ()))
        object.__setattr__(self, "left_out", tuple(self.left_out))


def pack_stamps(times: npt.NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Run-length encode the steps between time stamps (T,): a constant frame rate needs two runs (step, count).

    The first step is from 0 to the first time stamp.

    Example:
        >>> pack_stamps(np.array([10, 20, 30, 41, 52]))
        ((10, 3), (11, 2))
    """
    steps = np.diff(times, prepend=0)
    begins = np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1))
    counts = np.diff(begins, append=len(steps))
    return tuple(zip(steps[begins].tolist(), counts.tolist(), strict=True))


def unpack_stamps(stamps: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Time stamps (T,) from the runs of `pack_stamps`."""
    steps, counts = np.array(stamps, np.int64).reshape(-1, 2).T
    return np.cumsum(np.repeat(steps, counts))


class KnownSource:
    """The part of a `FrameSource` that follows from the facts that opening it found."""

    def __init__(self, path: Path, facts: SourceFacts) -> None:
        self.path = path
        self.facts = facts

    def __len__(self) -> int:
        return self.facts.frames

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) as displayed."""
        return self.facts.size

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.facts.fps

    @property
    def names(self) -> list[str]:
        """Frame numbers with five digits."""
        return [f"{index:05d}" for index in range(len(self))]

    def _require_unchanged(self, found: int) -> None:
        """Raise a `VideoReadError` if the number of frames is no longer the one in the facts."""
        if found != len(self):
            raise VideoReadError(
                self.path, f"it has {found} frames, and had {len(self)} when it was indexed: index the folder again"
            )


def resized(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Scale a size (H, W) to a short side in pixels; the longer side is rounded to the nearest pixel.

    A `short_side` of None leaves the size unchanged. What is enlarged grows no longer than `LONGEST` times the
    short side that is asked for: a frame of 1 x 80 pixels would become one of 480 x 38400.

    Raises:
        ConfigError: `short_side` is not positive.

    Example:
        >>> resized((480, 854), 240), resized((854, 480), 240), resized((480, 854), None)
        ((240, 427), (427, 240), (480, 854))
        >>> resized((1, 80), 480)
        (96, 7680)
    """
    if short_side is None:
        return size
    if short_side < 1:
        raise ConfigError(f"short_side is {short_side}: expected a length of at least 1 pixel")
    height, width = size
    shorter, longer = sorted(size)
    if shorter < short_side:
        short_side = max(shorter, min(short_side, LONGEST * short_side * shorter // longer))
    # Integer arithmetic: round half up, the same on every machine.
    height, width = ((2 * side * short_side + shorter) // (2 * shorter) for side in (height, width))
    return height, width


def resize_frame(frame: Frame, size: tuple[int, int]) -> Frame:
    """Resize a frame (H, W, 3) uint8 to `size` (H, W) with Pillow's bilinear filter, which is antialiased."""
    height, width = size
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


def frame_numbers(indices: Sequence[int]) -> list[int]:
    """The numbers of the frames that a read asks for.

    Raises:
        ConfigError: They are something else than whole numbers.
    """
    try:
        numbers = np.asarray(indices).reshape(-1)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise TypeError
    except (TypeError, ValueError) as error:
        raise ConfigError(f"frames are read by their numbers, such as [0, 5]; found {indices!r}") from error
    return [int(number) for number in numbers]


def gather(
    path: Path, count: int, indices: Sequence[int], size: tuple[int, int], fetch: Callable[[int], Frame]
) -> Frame:
    """`FrameSource.read` for a video of `count` frames.

    `fetch` reads one frame as (H', W', 3) uint8. It is called once per distinct index, in ascending order.
    """
    if not (
        isinstance(size, tuple | list)
        and len(size) == 2
        and all(isinstance(side, int | np.integer) and side > 0 for side in size)
    ):
        raise ConfigError(f"cannot read frames of size {size}: expected (H, W) of at least 1 pixel each")
    wanted = np.array(frame_numbers(indices), np.int64)  # (T,)
    outside = wanted[(wanted < 0) | (wanted >= count)]
    if outside.size:
        raise VideoReadError(
            path, f"frame {outside[0]} was requested, but its {count} frames are numbered 0 to {count - 1}"
        )
    frames = np.empty((len(wanted), *size, 3), np.uint8)
    for index in np.unique(wanted).tolist():
        frames[wanted == index] = resize_frame(fetch(index), size)
        report_progress()
    return frames


# A decoder in a reference cycle (such as the traceback of a caught error) must not be freed in a forked child: it
# would wait for threads that exist in the parent alone. Freezing must happen before the fork: hooks of other
# modules run in the child first, and may start a garbage collection.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)

H = TypeVar("H")


class ProcessHandle(Generic[H]):
    """A handle that each process opens for itself on first use. It does not travel by fork or pickle.

    Decoders hold threads, and threads do not survive a fork. A decoder inherited from the parent hangs when it is
    used, and also when it is freed. So an inherited handle is never touched: its memory stays allocated until the
    process ends.
    """

    def __init__(self) -> None:
        self._handle: H | None = None
        self._pid = 0

    def get(self, opener: Callable[[], H]) -> H:
        """Return this process's handle; `opener` opens it on first use and after `drop`."""
        if self._handle is not None and self._pid == os.getpid():
            return self._handle
        self.drop()
        self._handle, self._pid = opener(), os.getpid()
        return self._handle

    def drop(self) -> None:
        """Release the handle if it is this process's own; leave an inherited one allocated."""
        if self._handle is not None and self._pid != os.getpid():
            # One reference that nobody gives back, so that the destructor never runs here.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._handle))
        self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_handle": None, "_pid": 0}

    def __del__(self) -> None:
        self.drop()
