"""Model files: a trained network with what it needs to segment, small and safe to open, in safetensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vos_umec.errors import CheckpointError
from vos_umec.io.atomic import atomic_path
from vos_umec.models.weights import load_own_weights, weights_from_checkpoint
from vos_umec.training.module import UMECModule

SUFFIX = ".safetensors"
SETTINGS = ("network", "network_args", "tau", "segmenter", "encoder_weights", "weights_used_labels")
"""Hyperparameters to build a network, to segment as it was validated, and to know what it once started from."""


def write_model(module: UMECModule, path: str | Path, card: Mapping[str, Any] | None = None) -> None:
    """Write a module's network and read-out; optimiser, objectives and schedule are left behind.

    Weights become fp16; norms and biases, few but telling, stay fp32.

    Args:
        module: The module.
        path: File to write, ending in .safetensors; it appears whole or not at all.
        card: What a reader should know of the model, plain values: data, minutes, scores.

    Raises:
        CheckpointError: If the path does not end in .safetensors, or the module overrides `build_network`.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"a model file ends in {SUFFIX}; found {path.name}")
    if type(module).build_network is not UMECModule.build_network:
        raise CheckpointError(
            f"{type(module).__name__} builds a network of its own, and a model file tells how to build a preset's "
            "alone; keep the checkpoint, which names its class"
        )
    tensors = {
        name: (value.half() if value.is_floating_point() and value.dim() > 1 else value).contiguous().cpu()
        for name, value in module.network.state_dict().items()
    }
    settings = {name: module.hparams[name] for name in SETTINGS}
    metadata = {"vos_umec": json.dumps(settings), "card": json.dumps(dict(card or {}))}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))  # save_file() would keep other users from reading it


def read_model(path: str | Path) -> UMECModule:
    """The module of a model file, on the CPU and in evaluation mode.

    Args:
        path: A file that `write_model` wrote.

    Raises:
        CheckpointError: If the file is none of those, or its tensors do not fit.
    """
    with weights_from_checkpoint():
        module = UMECModule(**json.loads(_metadata(path)["vos_umec"]))
    load_own_weights(module.network, path)
    return module.eval()


def read_card(path: str | Path) -> dict[str, Any]:
    """What a model file says of itself.

    Args:
        path: A file that `write_model` wrote.

    Raises:
        CheckpointError: If the file is none of those.
    """
    card: dict[str, Any] = json.loads(_metadata(path)["card"])
    return card


def _metadata(path: str | Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as a model file: {error}") from error
    if "vos_umec" not in metadata:
        raise CheckpointError(
            f"{path} holds tensors but not how to build a network of them; give a file that `vos-umec export` wrote"
        )
    return metadata
