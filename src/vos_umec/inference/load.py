"""Networks and segmenters from checkpoints and model files, without Lightning."""

from pathlib import Path
from typing import Any

import torch

from vos_umec.device import pick_device
from vos_umec.inference.protocols import change_settings
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.model_file import Description, build_from_file, import_module_class, read_description
from vos_umec.models.umec import PropagationNetwork
from vos_umec.shipped import SHIPPED


def load_network(path: str | Path = SHIPPED) -> PropagationNetwork:
    """The network of a checkpoint or a model file, on the CPU and in evaluation mode.

    Args:
        path: A checkpoint that training wrote, or a model file of `vos-umec export`; without one, the model that
            comes with this package.

    Raises:
        CheckpointError: If the file is missing, is neither of the two, or holds another network.
    """
    return load_described(path)[0]


def load_segmenter(
    path: str | Path = SHIPPED, device: str | torch.device = "cpu", **changes: Any
) -> VideoSegmenter:
    """A segmenter for one video, with the settings with which the model was validated.

    Args:
        path: As for `load_network`.
        device: Where it works, see `pick_device`.
        **changes: Arguments of VideoSegmenter that are to differ, of `readout` the settings that do; "protocol"
            replaces all of the model's own.

    Raises:
        CheckpointError: As `load_network`.
        ConfigError: If VideoSegmenter has no such argument, or there is no such device here.

    Example:
        >>> load_segmenter(rounds=0).short_side
        360
    """
    place = pick_device(device)
    network, description = load_described(path)
    own = {} if "protocol" in changes else description.segmenter
    return VideoSegmenter.from_protocol(network.to(place), **change_settings(own, changes))


def load_described(path: str | Path) -> tuple[PropagationNetwork, Description]:
    """The network of a checkpoint or a model file, and its description.

    Args:
        path: As for `load_network`.

    Raises:
        CheckpointError: As `load_network`.
    """
    description = read_description(path)
    if description.network is None:  # an own module class builds it: import that, and Lightning
        module_class: Any = import_module_class(path, description, torch.nn.Module)
        module = module_class.load_from_checkpoint(path, map_location="cpu", weights_only=True)
        return module.network.eval(), description
    return build_from_file(description.network, path).eval(), description
