"""Frames of 480p video through VideoSegmenter on the pretended device, with 20 references in memory."""

import traceback

import numpy as np
import torch
import torch.nn.functional as F
from pretended_device import cuda

from vos_umec.inference import VideoSegmenter, load_segmenter
from vos_umec.models.factory import build_network

SIZE = (480, 854)
# The layers of resnet18, each an eighth as wide: as many launches, in a fraction of the CPU's time.
NARROW = {
    "preset": "resnet18",
    "encoder": {"width": 8},
    "mask_encoder": {"width": 8, "mask_dim": 64},
    "decoder": {"dims": (64, 32, 16)},
}


def segmenters() -> dict[str, tuple[int, VideoSegmenter]]:
    """By name: the number of objects, and the segmenter."""
    torch.manual_seed(0)
    net = build_network(NARROW).to("cuda")
    return {
        "resnet18, 1 object": (1, VideoSegmenter(net)),
        "resnet18, 3 objects": (3, VideoSegmenter(net)),
        "resnet18, label propagation": (1, VideoSegmenter(net, rounds=0)),
        "shipped model, 1 object": (1, load_segmenter(device="cuda")),
        "shipped model, 1 object, from coarse to fine": (
            1,
            load_segmenter(device="cuda", readout={"radius": 18, "permanent_radius": 45, "coarse_to_fine": 64}),
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


def measure() -> list[dict[str, object]]:
    """A row for each segmenter."""
    frame = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    rows = []
    with cuda() as counts:
        for name, (objects, segmenter) in segmenters().items():
            error = None
            try:
                mask = np.zeros(SIZE, np.uint8)
                for k in range(objects):
                    mask[100 + 30 * k : 220 + 30 * k, 100 + 150 * k : 260 + 150 * k] = k + 1
                segmenter.step(frame, mask)
                fill(segmenter)
                counts.reset()
                segmenter.step(frame)
            except Exception:
                error = traceback.format_exc(limit=-4)
            rows.append({"name": f"480p frame, {name}", "error": error} | counts.summary())
    return rows
