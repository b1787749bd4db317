"""A folder that is shared: model.safetensors, config.json for people and other programs, and the card README.md."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from vos_umec.io.atomic import atomic_path
from vos_umec.models.description import Description
from vos_umec.models.hub import WEIGHTS
from vos_umec.models.model_card import model_card
from vos_umec.models.model_file import model_bytes, public_description

CONFIG, README = "config.json", "README.md"


def write_folder(network: nn.Module, folder: Path, description: Description) -> None:
    """Write a network as `save_pretrained` does: model.safetensors, config.json and README.md, if there is none.

    Args:
        network: The network.
        folder: The folder; it is created if needed. Each file appears whole or not at all.
        description: How to build it and how to segment with it.

    Raises:
        CheckpointError: If an own module class builds the network.
    """
    for name, content in folder_files(network, description, {}).items():
        if name != README or not (folder / README).exists():
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(content)


def folder_files(
    network: nn.Module,
    description: Description,
    card: Mapping[str, Any],
    scores: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """The files of a folder that is shared, by name; `scores` as `vos-umec evaluate --json` writes them."""
    return {
        WEIGHTS: model_bytes(network, description, card),
        CONFIG: config_bytes(description),
        README: model_card(public_description(description), count_parameters(network), card, scores).encode(),
    }


def config_bytes(description: Description, **more: Any) -> bytes:
    """config.json: a description for people and other programs; `load` reads the one in model.safetensors."""
    values = {"library_name": "vos_umec", **asdict(public_description(description)), **more}
    return (json.dumps(values, indent=2) + "\n").encode()


def count_parameters(network: nn.Module) -> int:
    """How many numbers a network has learnt."""
    return sum(parameter.numel() for parameter in network.parameters())
