"""Networks from checkpoints and model files."""

import pickle
from pathlib import Path
from typing import Any

import torch

from vos_umec.errors import CheckpointError, ConfigError, first_sentence
from vos_umec.inference.protocols import change_settings
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.factory import import_class
from vos_umec.models.model_file import SUFFIX, read_model
from vos_umec.models.umec import PropagationNetwork
from vos_umec.shipped import SHIPPED
from vos_umec.training.module import MODULE_CLASS, UMECModule


def load_network(path: str | Path = SHIPPED) -> PropagationNetwork:
    """The network of a checkpoint or a model file, on the CPU and in evaluation mode.

    Args:
        path: A checkpoint written by the Trainer with a `UMECModule`, or a model file of `vos-umec export`; the
            model that comes with this package where none is given.

    Raises:
        CheckpointError: If the file is missing, is none of those, or holds another network.

    Example:
        >>> load_network().stride
        4
    """
    return load_module(path).network


def load_segmenter(
    path: str | Path = SHIPPED, device: str | torch.device = "cpu", **changes: Any
) -> VideoSegmenter:
    """A segmenter for one video, that reads out as the model was validated.

    Args:
        path: As for `load_network`.
        device: Where it works.
        **changes: Arguments of VideoSegmenter that are to differ, of `readout` the settings that do; "protocol"
            replaces all of the model's own.

    Raises:
        CheckpointError: As `load_network`.
        ConfigError: If VideoSegmenter has no such argument.

    Example:
        >>> load_segmenter(rounds=0).short_side
        360
    """
    module = load_module(path)
    own = {} if "protocol" in changes else module.hparams["segmenter"] or {}
    return VideoSegmenter.from_protocol(module.network.to(device), **change_settings(own, changes))


def load_module(path: str | Path = SHIPPED) -> UMECModule:
    """The module of a checkpoint or a model file, with its settings, on the CPU and in evaluation mode.

    Args:
        path: As for `load_network`.

    Raises:
        CheckpointError: If the file is missing, is none of those, or holds another network.

    Example:
        >>> load_module().hparams["segmenter"]["short_side"]
        360
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"no checkpoint at {path}; give a .ckpt file that training wrote, or a .safetensors file that "
            "`vos-umec export` wrote"
        )
    if Path(path).suffix == SUFFIX:
        return read_model(path)
    try:
        name = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[MODULE_CLASS]
        module = _own_class(path, name).load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, KeyError, RuntimeError, TypeError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of a UMECModule ({first_sentence(error)}); "
            "give a .ckpt file that training wrote"
        ) from error
    return module.eval()


def _own_class(path: str | Path, name: str) -> type[UMECModule]:
    """The class that wrote a checkpoint, which may be the user's."""
    try:
        return import_class(name, UMECModule)
    except ConfigError as error:
        raise CheckpointError(
            f"{path} is of a class of its own: {error}; run from the folder of its module, or load it with "
            "load_from_checkpoint of that class"
        ) from error
