"""A whole video, from whatever holds its frames: forward from the first prompt, and backward before it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vos_umec.errors import ConfigError, DataError, MaskError, VideoReadError
from vos_umec.inference.inputs import MaskLike, check_frame, mask_array
from vos_umec.io.frame_names import frame_index
from vos_umec.io.frames import DEFAULT_FPS, Frame, gather
from vos_umec.io.pipeline import read_ahead
from vos_umec.io.source import FrameSource, open_source

if TYPE_CHECKING:
    from vos_umec.inference.segmenter import VideoSegmenter

log = logging.getLogger(__name__)

Frames = FrameSource | str | Path | Sequence[Frame] | np.ndarray | Iterable[Frame]
"""A video, opened or not, or its frames (H, W, 3) uint8."""

_BACKWARD_PIXELS = 2**25  # in a batch that is read backward; each batch is decoded from the key frame before it


class FrameList:
    """Frames in memory as a `FrameSource`.

    Args:
        frames: Frames (H, W, 3) uint8 of one size, or an array (T, H, W, 3).

    Raises:
        ConfigError: A frame is something else, or there is none.
    """

    path = Path("the list of frames")
    fps = DEFAULT_FPS

    def __init__(self, frames: Sequence[Frame] | np.ndarray) -> None:
        self._frames = frames
        if not len(frames):
            raise ConfigError("the list of frames is empty; a video has at least one")
        for frame in frames:
            check_frame(frame)
        self.size = (frames[0].shape[0], frames[0].shape[1])

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def names(self) -> list[str]:
        """Frame numbers with five digits."""
        return [f"{index:05d}" for index in range(len(self))]

    def read(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Frame:
        """Read frames; see `FrameSource.read`."""
        return gather(self.path, len(self), indices, size or self.size, lambda index: self._checked(index))

    def _checked(self, index: int) -> Frame:
        frame = self._frames[index]
        if frame.shape[:2] != self.size:
            raise VideoReadError(self.path, f"frame {index} has {frame.shape[:2]} pixels (H, W), not {self.size}")
        return frame


def segment_video(
    segmenter: VideoSegmenter,
    source: Frames,
    masks: Mapping[Any, MaskLike],
    batch: int = 4,
    backward: bool = False,
) -> Iterator[tuple[int, np.ndarray]]:
    """As `VideoSegmenter.segment`, of a segmenter that is at no video; checks its arguments at once."""
    if not isinstance(masks, Mapping):
        raise ConfigError(
            "masks are a mapping from the frame to its mask, such as {0: mask}; found " + type(masks).__name__
        )
    if all(mask is None for mask in masks.values()):
        raise ConfigError("there is no mask, so nothing to follow; give one, such as {0: mask}")
    if isinstance(source, str | Path):
        opened: Any = open_source(source)
    elif isinstance(source, np.ndarray) or (isinstance(source, Sequence) and not hasattr(source, "read")):
        frames: Any = source
        opened = FrameList(frames)
    else:
        opened = source
    if not (hasattr(opened, "read") and hasattr(opened, "__len__")):  # an opened file has the first alone
        if not isinstance(opened, Iterable):
            raise ConfigError(
                "a video is a path, an opened source, or frames (H, W, 3) uint8; found " + type(opened).__name__
            )
        if backward:
            raise ConfigError("frames that come one by one cannot be read backward; give a list, or a path")
        return _stream(segmenter, opened, {_number(key): mask_array(mask) for key, mask in masks.items()})
    prompts = {_place(opened, key): mask_array(mask) for key, mask in masks.items()}
    if not any(np.any(mask) for mask in prompts.values() if mask is not None):
        log.warning("no mask shows an object: there is nothing to follow, and all results are background")
    if len(prompts) < len(masks):
        raise ConfigError("two masks are of the same frame; give one mask a frame")
    size = getattr(opened, "size", None)
    for index, mask in prompts.items():
        if size is not None and mask is not None and mask.shape != tuple(size):
            raise MaskError(
                f"the mask of frame {index} has shape {mask.shape} where the video has {tuple(size)} (H, W); give "
                "the mask at the video's size"
            )
    steps = walk(segmenter, opened, prompts, backward, batch, begin=0 if not backward else None)
    return ((index, ids) for index, _, ids, _ in steps)


def walk(
    segmenter: VideoSegmenter,
    source: FrameSource,
    prompts: Mapping[int, np.ndarray | None],
    backward: bool = False,
    batch: int = 4,
    begin: int | None = None,
    done: int = 0,
    return_probabilities: bool = False,
) -> Iterator[tuple[int, Frame, np.ndarray, np.ndarray | None]]:
    """Segment a video frame by frame, each pass with a memory of its own.

    Args:
        segmenter: The segmenter.
        source: The video.
        prompts: Masks by frame index.
        backward: First go from the first prompt back to frame 0.
        batch: Frames read at a time.
        begin: Where the forward pass begins; None for the first prompt.
        done: Frames that were yielded before, when `segmenter` was in the state that it has now.
        return_probabilities: Give them, too.

    Yields:
        (frame index, frame (H, W, 3), ids (H, W) uint8, probabilities (K+1, H, W) or None).
    """
    first = min(prompts)
    passes = [range(first - 1, -1, -1)] if backward else []
    passes.append(range(first if begin is None else begin, len(source)))
    for indices in passes:
        if done >= len(indices):
            done -= len(indices)
            continue
        if not done:
            segmenter.reset()
            if indices.step < 0:
                segmenter.step(source.read([first])[0], prompts[first])
        if indices.step < 0 and len(indices):
            batch = max(batch, min(32, _BACKWARD_PIXELS // max(1, source.size[0] * source.size[1])))
        for index, frame in _frames(source, indices[done:], batch):
            mask = prompts.get(index)
            if return_probabilities:
                yield index, frame, *segmenter.step(frame, mask, return_probabilities=True)
            else:
                yield index, frame, segmenter.step(frame, mask), None
        done = 0


def _frames(source: FrameSource, indices: range, batch: int) -> Iterator[tuple[int, Frame]]:
    """Frames in order; where a batch cannot be read, its frames before the broken one still come."""
    came = 0
    try:
        for index, frame in read_ahead(source, batch, indices):
            yield index, frame
            came += 1
    except VideoReadError:
        if came + 1 >= len(indices):
            raise
        yield from read_ahead(source, 1, indices[came:])
        raise


def _stream(
    segmenter: VideoSegmenter, frames: Iterable[Frame], prompts: Mapping[int, np.ndarray | None]
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of unknown number, one by one."""
    count = 0
    for index, frame in enumerate(frames):
        yield index, segmenter.step(frame, prompts.get(index))
        count = index + 1
    if late := [index for index in prompts if index >= count]:
        raise DataError(f"there is a mask for frame {late[0]}, and the frames ended after {count}")


def _number(key: int | str) -> int:
    if isinstance(key, bool) or not isinstance(key, int | np.integer) or key < 0:
        raise ConfigError(f"there is a mask for frame {key!r}; frames that come one by one are numbered from 0")
    return int(key)


def _place(source: FrameSource, key: int | str) -> int:
    """The index of the frame that a key names."""
    if isinstance(key, str) and hasattr(source, "names"):
        return frame_index(source.names, key)
    if isinstance(key, bool) or not isinstance(key, int | np.integer) or not 0 <= key < len(source):
        raise ConfigError(
            f"there is a mask for frame {key!r}; the video has frames 0 to {len(source) - 1}, as numbers or names"
        )
    return int(key)
