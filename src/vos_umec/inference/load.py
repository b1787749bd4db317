"""Segmenters from checkpoints and model files, without Lightning."""

from pathlib import Path
from typing import Any

import torch

from vos_umec.device import pick_device
from vos_umec.inference.protocols import adjust_settings
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.model_file import load_described
from vos_umec.shipped import SHIPPED


def load_segmenter(
    path: str | Path = SHIPPED, device: str | torch.device = "cpu", *, fast: bool = False, **changes: Any
) -> VideoSegmenter:
    """A segmenter for one video, with the settings with which the model was validated.

    Args:
        path: A file, a folder or a name on the Hub, as for `vos_umec.load`.
        device: Where it works, see `pick_device`.
        fast: Search from coarse to fine and near the objects: on a CPU a frame takes a third of the time, and
            scores are 0.3 J&F lower.
        **changes: Arguments of VideoSegmenter that are to differ, of `readout` the settings that do; "protocol"
            replaces all of the model's own.

    Raises:
        CheckpointError: As `vos_umec.load`.
        ConfigError: If VideoSegmenter has no such argument, there is no such device here, or `fast` is given with
            a protocol.

    Example:
        >>> load_segmenter(rounds=0).short_side
        360
    """
    place = pick_device(device)
    network, description = load_described(path)
    settings = adjust_settings(description.segmenter, changes, fast)
    return VideoSegmenter.from_protocol(network.to(place), **settings)
