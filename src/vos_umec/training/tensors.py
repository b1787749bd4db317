"""Tensors of own checkpoints and model files: whether they fit, and loading them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vos_umec.errors import CheckpointError
from vos_umec.models.weights import read_tensors

SHIPPED = Path(__file__).parents[1] / "shipped" / "compact.safetensors"
"""The model that comes with this package; `docs/model_card.md` says what it is."""


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
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    changed = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors missing (such as {missing[0]})")
    if surplus:
        problems.append(f"{len(surplus)} tensors too many (such as {surplus[0]})")
    if changed:
        name = changed[0]
        problems.append(
            f"{len(changed)} tensors of another shape ({name} is {list(found[name].shape)}, "
            f"expected {list(expected[name].shape)})"
        )
    if problems:
        raise CheckpointError(
            f"the checkpoint is of another network: {', '.join(problems)}; "
            "use the settings it was trained with, or another checkpoint"
        )


def load_own_weights(network: nn.Module, path: str | Path) -> None:
    """Load the weights of a network from a checkpoint or a model file of the same network.

    Args:
        network: The network.
        path: A checkpoint of a `UMECModule`, or a model file of `vos-umec export`; "shipped" is the package's own.

    Raises:
        CheckpointError: If the file is missing or no such file, or is of another network.
    """
    tensors = read_tensors(SHIPPED if str(path) == "shipped" else path)
    kept = {name: x for name, x in tensors.items() if name.startswith("network.")}  # of a checkpoint
    weights = {name.removeprefix("network."): x for name, x in (kept or tensors).items()}
    weights = {name: x.float() if x.dtype == torch.half else x for name, x in weights.items()}
    check_fits(weights, network.state_dict())
    network.load_state_dict(weights)
