"""Objects followed through the frames of a session, and the speed at which this machine does it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vos_umec.app.session import Session
from vos_umec.errors import ConfigError
from vos_umec.inference.inputs import cells_of_objects
from vos_umec.inference.protocols import adjust_settings, change_settings
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.atomic import atomic_path
from vos_umec.io.pipeline import read_ahead
from vos_umec.models.hub import find_model
from vos_umec.models.model_file import load_described
from vos_umec.shipped import SHIPPED

log = logging.getLogger(__name__)

MEMORY = "memory.safetensors"
_SAVE_SECONDS = 60.0  # between two states on disk: the most work that a crash costs


class Model:
    """A network, and segmenters of it with the settings of the command line.

    Args:
        checkpoint: A checkpoint or a model file; None for the model of the package.
        device: Where it works.
        settings: Arguments of VideoSegmenter that differ from the model's own.
        fast: Search as `load_segmenter(fast=True)` does.
    """

    def __init__(
        self, checkpoint: Path | None, device: torch.device, settings: Mapping[str, Any], fast: bool = False
    ) -> None:
        path = find_model(checkpoint or SHIPPED)
        self.name = "the model of the package" if checkpoint is None else checkpoint.name
        self.device = device
        network, description = load_described(path)
        self._network = network.to(device)
        self._settings = adjust_settings(description.segmenter, settings, fast)
        self._segmenter = VideoSegmenter.from_protocol(self._network, **self._settings)
        self.short_side = self._segmenter.short_side
        settings_text = json.dumps({key: str(value) for key, value in sorted(self._settings.items())})
        self.digest = hashlib.sha256(path.read_bytes() + settings_text.encode()).hexdigest()

    def segmenter(self, short_side: int | None) -> VideoSegmenter:
        """A segmenter that is at no video; the same one for the same short side, for one thread at a time."""
        short_side = short_side or self.short_side
        if self._segmenter.short_side != short_side:
            changed = change_settings(self._settings, {"short_side": short_side})
            self._segmenter = VideoSegmenter.from_protocol(self._network, **changed)
        self._segmenter.reset()
        return self._segmenter


def follow(
    model: Model, session: Session, start: int, backward: bool, warn: Callable[[str], None] = log.warning
) -> Generator[int]:
    """Follow the objects that are not locked from one frame to an end of the video, and write their masks.

    The frame is taken as it is shown: its whole mask is the prompt. Where the last run stopped at this frame and
    nothing was drawn since, that run goes on with the memory it had. Drawings on the way are prompts, too. An
    object that this frame does not show is looked for from its last drawing behind it, unless it was erased here.

    Args:
        model: The model.
        session: The session.
        start: The frame to start from.
        backward: Towards frame 0, else towards the last one.
        warn: Called with what the user should know of the run.

    Yields:
        The index of each frame whose mask is written.

    Raises:
        ConfigError: There is nothing to follow.
    """
    session.require_frame(start)
    followed = [o.id for o in session.objects if not o.locked]
    source = session.open_again()
    segmenter = model.segmenter(session.short_side)
    asked = {
        "frame": start,
        "backward": backward,
        "revision": session.revision,
        "short_side": session.short_side,
        "model": model.digest,
    }
    if not _restore(session, segmenter, asked):
        shown = session.mask(start)
        shown = np.where(np.isin(shown, followed), shown, 0).astype(np.uint8)
        here = set(np.unique(shown).tolist()) - {0}
        _warn_of_small_objects(session, segmenter, shown, warn)
        erased = set(session.drawn.get(start, ())) - here  # on purpose: they are not looked for
        for index, ids in _behind(session, start, backward, set(followed) - here - erased):
            segmenter.step(source.read([index])[0], session.drawing(index)[0], ids)
        if not here and not segmenter.ids:
            raise ConfigError(
                f"frame {session.source.names[start]} shows no object to follow: draw one on it, or go to a frame "
                "that has one; locked objects are not followed"
            )
        segmenter.step(source.read([start])[0], shown, sorted(here))
    saved = time.monotonic()
    index = start
    seen: dict[int, int] = {}  # the last frame that shows each object, by more than a twentieth of its largest mask
    largest = np.bincount(session.mask(start).ravel(), minlength=256)
    way = range(start - 1, -1, -1) if backward else range(start + 1, len(source))
    try:
        for index, frame in read_ahead(source, 4, way):
            drawing, drawn = session.drawing(index)
            ids = [i for i in drawn if i in followed]
            found = segmenter.step(frame, drawing if ids else None, ids)
            if drawing is not None:  # at its edge a pixel may have been added: what was drawn stays as it was drawn
                found = np.where(np.isin(found, ids) & (found != drawing), 0, found).astype(np.uint8)
            session.put_result(index, found)
            pixels = np.bincount(found.ravel(), minlength=256)
            largest = np.maximum(largest, pixels)
            seen |= dict.fromkeys(np.flatnonzero(20 * pixels > largest).tolist(), index)
            asked["frame"] = index
            if time.monotonic() - saved > _SAVE_SECONDS:
                _save(session, segmenter, asked)
                saved = time.monotonic()
            yield index
        for o in session.objects:
            if o.id in segmenter.ids and seen.get(o.id, start) != way[-1]:
                last = session.source.names[seen.get(o.id, start)]
                warn(
                    f"{o.name} is hardly seen after frame {last}: if it is there, correct a frame, or choose a "
                    "larger short side"
                )
    finally:
        if index not in (start, way[-1]):
            _save(session, segmenter, asked)


def seconds_a_frame(model: Model, session: Session) -> float:
    """How long this machine takes for a frame of the video, measured by one in the middle of it.

    It follows as many objects as the session has, in stripes across the middle of the frame. The memory is as full
    as it is on the mean: a frame with many references takes twice as long as the first one.
    """
    segmenter = model.segmenter(session.short_side)
    frame = session.frame(0)
    mask = np.zeros(frame.shape[:2], np.uint8)
    number = max(1, sum(not o.locked for o in session.objects))
    H, W = session.source.size
    middle = mask[H // 4 : H - H // 4, W // 4 : W - W // 4]
    middle[:] = 1 + np.arange(middle.shape[1]) * number // middle.shape[1]
    segmenter.step(frame, mask)
    segmenter.step(frame)
    memory = segmenter.memory
    with torch.inference_mode():
        for _ in range(1, min(segmenter.references, len(session.source) // 2)):
            memory.add(memory.keys[-1], memory.masks[-1], memory.values[-1] if segmenter.rounds else None)
    begin = time.monotonic()
    segmenter.step(frame)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.monotonic() - begin


def _behind(session: Session, start: int, backward: bool, missing: set[int]) -> list[tuple[int, list[int]]]:
    """The frames behind `start` with the latest drawing of each missing object, the farthest first."""
    behind = (i for i in session.drawn if (i > start if backward else i < start))
    found: dict[int, list[int]] = {}
    for index in sorted(behind, key=lambda i: abs(i - start)):
        here = missing & set(session.drawn[index])
        drawing, _ = session.drawing(index)
        missing = missing - here
        if drawing is not None and (seen := sorted(here & set(np.unique(drawing).tolist()))):
            found[index] = seen
    return sorted(found.items(), key=lambda item: -abs(item[0] - start))


def _warn_of_small_objects(
    session: Session, segmenter: VideoSegmenter, shown: np.ndarray, warn: Callable[[str], None]
) -> None:
    names = {o.id: o.name for o in session.objects}
    for number, cells in cells_of_objects(segmenter.resizing, shown).items():
        if cells < 0.5:
            warn(
                f"{names[number]} is too small to be followed at short side {segmenter.short_side}: choose a "
                "larger one"
            )


def _save(session: Session, segmenter: VideoSegmenter, asked: Mapping[str, Any]) -> None:
    tensors = {name: tensor.cpu().contiguous() for name, tensor in segmenter.state().items()}
    with atomic_path(session.folder / MEMORY) as temporary:
        save_file(tensors, temporary, {"run": json.dumps(asked)})


def _restore(session: Session, segmenter: VideoSegmenter, asked: Mapping[str, Any]) -> bool:
    """Give a segmenter what the last run remembered, if this one goes on with it."""
    path = session.folder / MEMORY
    if not path.exists():
        return False
    try:
        with safe_open(str(path), "pt") as file:
            if json.loads(file.metadata()["run"]) != dict(asked):
                return False
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        log.warning("%s cannot be read (%s): following starts anew from the frame", path, error)
        return False
    segmenter.restore(state)
    return True
