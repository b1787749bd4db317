"""What every frame source does alike: facts about itself, checked indices, resizing, filling the result."""

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


@dataclass(frozen=True)
class SourceFacts:
    """What opening a video found out, in plain values, so that an index can keep it.

    Handing it to ``open_source`` again saves decoding the whole video a second time only to count it, and lets
    the reader jump straight to the key frame it needs.

    Args:
        reader: Which reader is right for it.
        frames: Frames that can be read, > 0.
        size: (H, W) in pixels, as displayed.
        fps: Frames a second, > 0.
        keys: Key frames of a video file, rising.
        stamps: Time stamps of its frames as ``pack_stamps`` gives them: () where they cannot tell frames apart,
            None where nobody has looked.

    Example:
        >>> import dataclasses, json
        >>> facts = SourceFacts("decord", 80, (480, 854), 24.0, keys=(0, 48), stamps=((0, 1), (512, 79)))
        >>> SourceFacts(**json.loads(json.dumps(dataclasses.asdict(facts)))) == facts
        True
    """

    reader: Literal["folder", "decord", "pyav"]
    frames: int
    size: tuple[int, int]
    fps: float
    keys: tuple[int, ...] = ()
    stamps: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        height, width = self.size  # JSON gives lists
        object.__setattr__(self, "size", (height, width))
        object.__setattr__(self, "keys", tuple(self.keys))
        if self.stamps is not None:
            object.__setattr__(self, "stamps", tuple((step, count) for step, count in self.stamps))


def pack_stamps(times: npt.NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Time stamps in the few numbers that most videos need: a steady rate is one step, many times.

    Args:
        times: (T,) time stamps, in any unit.

    Returns:
        Runs (step, count); the first step leads from 0 to the first time stamp.

    Example:
        >>> pack_stamps(np.array([10, 20, 30, 41, 52]))
        ((10, 3), (11, 2))
    """
    steps = np.diff(times, prepend=0)
    begins = np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1))
    counts = np.diff(begins, append=len(steps))
    return tuple(zip(steps[begins].tolist(), counts.tolist(), strict=True))


def unpack_stamps(stamps: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """The time stamps behind ``pack_stamps``.

    Args:
        stamps: Runs (step, count).

    Returns:
        (T,) time stamps.

    Example:
        >>> unpack_stamps(((10, 3), (11, 2))).tolist()
        [10, 20, 30, 41, 52]
    """
    steps, counts = np.array(stamps, np.int64).reshape(-1, 2).T
    return np.cumsum(np.repeat(steps, counts))


def resized(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Size with a given short side and the same aspect.

    Args:
        size: (H, W) in pixels.
        short_side: Length of the shorter side, > 0; None leaves the size unchanged.

    Returns:
        (H, W), the longer side rounded to the nearest pixel.

    Raises:
        ConfigError: ``short_side`` is not positive.

    Example:
        >>> resized((480, 854), 240), resized((854, 480), 240), resized((480, 854), None)
        ((240, 427), (427, 240), (480, 854))
    """
    if short_side is None:
        return size
    if short_side < 1:
        raise ConfigError(f"short_side is {short_side}: expected a length of at least 1 pixel")
    height, width = size
    shorter = min(height, width)
    # Integer arithmetic: round half up, the same on every machine.
    height, width = ((2 * side * short_side + shorter) // (2 * shorter) for side in (height, width))
    return height, width


def resize_frame(frame: Frame, size: tuple[int, int]) -> Frame:
    """Resize a picture, antialiased when it gets smaller.

    Args:
        frame: (H, W, 3) uint8.
        size: Wanted (H, W).

    Returns:
        (H, W, 3) uint8 of the wanted size; the same array when it has that size already.

    Source:
        Pillow's bilinear filter, whose support grows with the scale.

    Example:
        >>> checks = np.indices((4, 4)).sum(0) % 2 * 255
        >>> resize_frame(np.repeat(checks[..., None], 3, 2).astype(np.uint8), (1, 1)).tolist()
        [[[128, 128, 128]]]
    """
    height, width = size
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


def gather(
    path: Path,
    count: int,
    indices: Sequence[int],
    size: tuple[int, int],
    fetch: Callable[[int], Frame],
) -> Frame:
    """Read frames in the cheapest order, each once, and lay them out in the order asked.

    Args:
        path: The video, for the error message.
        count: Frames it has.
        indices: T indices from 0 to ``count`` - 1, in any order, repeats allowed.
        size: (H, W) of the result.
        fetch: Reads one frame as (H', W', 3) uint8; called in rising order, once per different index.

    Returns:
        (T, H, W, 3) uint8.

    Raises:
        VideoReadError: An index is out of range.
        ConfigError: ``size`` is not positive.

    Example:
        >>> one_grey = lambda index: np.full((1, 1, 3), index, np.uint8)
        >>> gather(Path("clip"), 9, [5, 2, 5], (1, 1), one_grey)[:, 0, 0, 0].tolist()
        [5, 2, 5]
    """
    if min(size) < 1:
        raise ConfigError(f"cannot read frames of size {size}: expected (H, W) of at least 1 pixel each")
    wanted = np.asarray(indices, dtype=np.int64).reshape(-1)  # (T,)
    outside = wanted[(wanted < 0) | (wanted >= count)]
    if outside.size:
        raise VideoReadError(
            path, f"frame {outside[0]} was asked for, but its {count} frames are numbered 0 to {count - 1}"
        )
    frames = np.empty((len(wanted), *size, 3), np.uint8)
    for index in np.unique(wanted).tolist():
        frames[wanted == index] = resize_frame(fetch(index), size)
    return frames


H = TypeVar("H")

# What a parent has let go of in a circle, as a caught error does with the decoder in its traceback, a child must
# not free either: it would wait for threads that did not come along. Frozen before the fork, not after it, where
# hooks of other modules come first and may well set off the search for circles.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)


class ProcessHandle(Generic[H]):
    """A handle that is opened lazily, once in every process, and never travels by fork or pickle.

    Decoders hold threads. Threads do not survive a fork, so a decoder inherited from the parent hangs when it
    is used, and also when it is freed, for then it waits for its threads. An inherited handle is therefore
    never touched again: it stays allocated until the process ends.

    Example:
        >>> import pickle
        >>> handle = ProcessHandle()
        >>> handle.get(list) is handle.get(list)
        True
        >>> pickle.loads(pickle.dumps(handle)).get(list) is handle.get(list)
        False
    """

    def __init__(self) -> None:
        self._handle: H | None = None
        self._pid = 0

    def get(self, opener: Callable[[], H]) -> H:
        """Give this process's handle, opened on first use.

        Args:
            opener: Opens one; called at most once per process as long as nothing is dropped.
        """
        if self._handle is not None and self._pid == os.getpid():
            return self._handle
        self.drop()
        self._handle, self._pid = opener(), os.getpid()
        return self._handle

    def drop(self) -> None:
        """Let go of the handle: close it if it is this process's own, else leave it where it is."""
        if self._handle is not None and self._pid != os.getpid():
            # One reference more than anyone will ever give back, so that its destructor never runs here.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._handle))
        self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_handle": None, "_pid": 0}

    def __del__(self) -> None:
        self.drop()
