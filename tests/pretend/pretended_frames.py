"""Frames of video through VideoSegmenter on the pretended device, with 20 references in memory."""

import traceback

import numpy as np
import torch
import torch.nn.functional as F
from pretended_device import cuda

from vos_umec.inference import VideoSegmenter, load_segmenter
from vos_umec.models.factory import build_network

# The layers of resnet18, each an eighth as wide: as many launches, in a fraction of the CPU's time.
NARROW = {
    "preset": "resnet18",
    "encoder": {"width": 8},
    "mask_encoder": {"width": 8, "mask_dim": 64},
    "decoder": {"dims": (64, 32, 16)},
}


def segmenters(short_side: int) -> dict[str, tuple[int, VideoSegmenter]]:
    """By name: the number of objects, and the segmenter."""
    torch.manual_seed(0)
    working = min(short_side, 360)  # of the shipped model
    net = build_network(NARROW).to("cuda")
    return {
        "resnet18, 1 object": (1, VideoSegmenter(net)),
        "resnet18, 3 objects": (3, VideoSegmenter(net)),
        "resnet18, label propagation": (1, VideoSegmenter(net, rounds=0)),
        "shipped model, 1 object": (1, load_segmenter(device="cuda", short_side=working)),
        "shipped model, 1 object, from coarse to fine": (
            1,
            load_segmenter(
                device="cuda",
                short_side=working,
                readout={"radius": 18, "permanent_radius": 45, "coarse_to_fine": 64},
            ),
        ),
    }


def fill(segmenter: VideoSegmenter) -> None:
    """Fill the memory up with frames of random keys, which is quicker than to segment frames."""
    memory = segmenter.memory
    with torch.inference_mode():
        while len(memory) < segmenter.references + memory.permanent:
            key = F.normalize(torch.randn(memory.keys.shape[1:], device="cuda"), dim=-1)
            values = memory.values[0].clone() if segmenter.rounds else None
            memory.add(key.to(memory.keys.dtype), memory.masks[0].clone(), values)


def measure(short_side: int = 480) -> list[dict[str, object]]:
    """A row for each segmenter."""
    size = (short_side, 16 * short_side // 9)
    frame = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    rows = []
    with cuda() as counts:
        for name, (objects, segmenter) in segmenters(short_side).items():
            error = None
            try:
                mask = np.zeros(size, np.uint8)
                unit = short_side // 16
                for k in range(objects):
                    mask[(3 + k) * unit : (7 + k) * unit, (3 + 5 * k) * unit : (8 + 5 * k) * unit] = k + 1
                segmenter.step(frame, mask)
                fill(segmenter)
                counts.reset()
                segmenter.step(frame)
            except Exception:
                error = traceback.format_exc(limit=-4)
            rows.append({"name": f"{short_side}p frame, {name}", "error": error} | counts.summary())
    return rows
