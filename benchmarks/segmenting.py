"""What the inference benchmark segments, and with what: a real or made video, networks, and segmenters at work."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vos_umec.data.synthetic import SyntheticVOS
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.masks import read_mask
from vos_umec.io.source import open_source
from vos_umec.models.factory import build_network
from vos_umec.models.umec import UMEC

REFERENCES, TAU = 20, 0.05
PAPER = {"Dv": 512, "dims": (512, 256, 128)}
NARROW = {"Dv": 128, "dims": (128, 64, 64)}


def network(Dv: int = 512, dims: tuple[int, ...] = (512, 256, 128)) -> UMEC:
    """ResNet-18 to stage 3, keys of 256 channels at stride 8, random weights.

    The decoder adds to the previous mask, and begins by adding nothing: else masks of random weights would fill a
    window. Its arithmetic is the same.
    """
    torch.manual_seed(0)
    spec = {
        "preset": "resnet18",
        "tau": TAU,
        "encoder": {"blocks": (2, 2, 2), "strides": (1, 2, 1), "key_dim": 256},
        "mask_encoder": {"mask_dim": Dv},
        "decoder": {"dims": dims, "residual": True},
    }
    return cast(UMEC, build_network(spec).eval())


class Clip:
    """Frames (T, H, W, 3) and masks (T, H, W) of one object: DAVIS's dog where its place is known, else made."""

    def __init__(self) -> None:
        if "VOS_UMEC_DATA" in os.environ:
            root = Path(os.environ["VOS_UMEC_DATA"]) / "davis"
            self.source = open_source(root / "JPEGImages/480p/dog")
            masks = [root / f"Annotations/480p/dog/{name}.png" for name in self.source.names]
            self.name = "DAVIS's dog, 480 x 854"
        else:
            data = SyntheticVOS("runs/bench/video", 1, 1, frames=40, size=(480, 854), objects=(1, 1))
            data.prepare()
            sequence = data.val_sequences()[0]
            self.source = sequence.source()
            masks = [sequence.annotations[t] for t in range(len(self.source))]
            self.name = "made video, 480 x 854"
        self.frames = self.source.read(range(36))
        self.masks = np.stack([read_mask(mask) for mask in masks[:36]]) == 1

    def objects(self, t: int, K: int) -> np.ndarray:
        """Ids (H, W) of K objects of equal size: the real one, and copies of its mask laid beside it."""
        ids = np.zeros(self.masks.shape[1:], np.uint8)
        for k in reversed(range(K)):
            ids[np.roll(self.masks[t], 170 * k, axis=1)] = k + 1
        return ids

    def to_and_fro(self, start: int) -> Iterator[np.ndarray]:
        """Frames without end."""
        while True:
            yield from self.frames[start:]
            yield from self.frames[-2:start:-1]


@functools.cache
def clip() -> Clip:
    return Clip()


@torch.inference_mode()
def full(segmenter: VideoSegmenter, K: int = 1) -> VideoSegmenter:
    """The same segmenter with its memory full: first frame + last 20, all with their annotated masks."""
    segmenter.step(clip().frames[0], clip().objects(0, K))
    segmenter.rounds, rounds = 0, segmenter.rounds  # what V would give for each frame is not worth the wait
    memory = segmenter.memory
    values = memory.values[0] if rounds else None
    for t in (t % len(clip().frames) for t in range(1, memory.references + 1)):
        key = segmenter._encode(segmenter._prepare(clip().frames[t])).key[0].permute(1, 2, 0)
        native = segmenter.short_side is None
        memory.add(key, grid_masks(clip().objects(t, K), K) if native else memory.masks[0], values)
    segmenter.rounds = rounds
    return segmenter


def grid_masks(ids: np.ndarray, K: int) -> torch.Tensor:
    """Soft masks (h, w, K) of K objects."""
    masks = torch.from_numpy(np.stack([ids == k + 1 for k in range(K)])).float()
    masks = F.pad(masks, (0, -masks.shape[-1] % 8, 0, -masks.shape[-2] % 8))
    return F.avg_pool2d(masks[None], 8)[0].permute(1, 2, 0).contiguous()


def stepping(segmenter: VideoSegmenter) -> Callable[[], np.ndarray]:
    """One more frame at each call."""
    frames = clip().to_and_fro(REFERENCES + 1)
    return lambda: segmenter.step(next(frames))


def annotated_windows(segmenter: VideoSegmenter, K: int) -> VideoSegmenter:
    """Random keys leak masks over the whole frame; V and D are to look where a trained network's would be."""
    readout = segmenter._readout
    known = grid_masks(clip().objects(REFERENCES + 1, K), K).permute(2, 0, 1)

    def patched(key: torch.Tensor):  # the coarse masks are made as ever, then replaced by the annotated ones
        found = readout(key)
        coarse = known + 0 * found.coarse()
        return dataclasses.make_dataclass("Found", ["coarse", "values"])(lambda: coarse, found.values)

    segmenter._readout = patched
    return segmenter


def video(frames: int, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """A picture of colored squares that moves by a pixel a frame."""
    H, W = size
    squares = np.random.default_rng(0).integers(0, 255, (H // 8 + 9, W // 8 + 9, 3))
    picture = np.kron(squares, np.ones((8, 8, 1))).astype(np.uint8)
    return [np.ascontiguousarray(picture[t % 40 : t % 40 + H, t % 40 : t % 40 + W]) for t in range(frames)]


def bars(size: tuple[int, int], objects: int) -> NDArray[np.uint8]:
    """A mask of objects side by side."""
    H, W = size
    mask = np.zeros(size, np.uint8)
    for k in range(objects):
        mask[H // 5 : H // 2, k * W // (objects + 1) + 9 : (k + 1) * W // (objects + 1) - 9] = k + 1
    return mask
