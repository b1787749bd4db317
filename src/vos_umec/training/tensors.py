"""Tensors of own checkpoints and model files: whether they fit, and loading them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vos_umec.errors import CheckpointError, ConfigError
from vos_umec.models.weights import misfits, read_tensors
from vos_umec.shipped import SHIPPED


def check_fits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare a checkpoint's tensors with a module's.

    Args:
        found: The checkpoint's state dictionary.
        expected: The module's own.

    Raises:
        CheckpointError: If names or shapes differ, with an example of each kind.

    Example:
        >>> import torch
        >>> check_fits({"w": torch.zeros(2)}, {"w": torch.zeros(3)})
        Traceback (most recent call last):
        vos_umec.errors.CheckpointError: the checkpoint is of another network: 1 tensors of another shape \
(w is [2], expected [3]); use the settings it was trained with, or another checkpoint
    """
    problems = misfits(found, expected)
    if problems:
        raise CheckpointError(
            f"the checkpoint is of another network: {', '.join(problems)}; "
            "use the settings it was trained with, or another checkpoint"
        )


def load_own_weights(network: nn.Module, path: str | Path, parts: Sequence[str] | None = None) -> None:
    """Load the weights of a network from a checkpoint or a model file of the same network.

    Args:
        network: The network.
        path: A checkpoint of a `UMECModule`, or a model file of `vos-umec export`; "shipped" is the package's own.
        parts: What is loaded, of "encoder", "mask_encoder" and "decoder"; None for all.

    Raises:
        CheckpointError: If the file is missing or no such file, or is of another network.
        ConfigError: If the network has no such part.
    """
    tensors = read_tensors(SHIPPED if str(path) == "shipped" else path)
    kept = {name: x for name, x in tensors.items() if name.startswith("network.")}  # of a checkpoint
    weights = {name.removeprefix("network."): x for name, x in (kept or tensors).items()}
    weights = {name: x.float() if x.dtype == torch.half else x for name, x in weights.items()}
    if parts is None:
        check_fits(weights, network.state_dict())
        network.load_state_dict(weights)
        return
    children = dict(network.named_children())
    if unknown := set(parts) - children.keys():
        raise ConfigError(f"no part {sorted(unknown)} to start from; the network's parts are {', '.join(children)}")
    for part in parts:
        own = {name.removeprefix(f"{part}."): x for name, x in weights.items() if name.startswith(f"{part}.")}
        check_fits(own, children[part].state_dict())
        children[part].load_state_dict(own)
