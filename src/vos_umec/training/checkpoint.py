"""Networks from checkpoints, with errors that say what does not fit."""

import pickle
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vos_umec.errors import CheckpointError
from vos_umec.models.umec import UMEC


def load_network(path: str | Path) -> UMEC:
    """The network of a training checkpoint, on the CPU and in evaluation mode.

    Args:
        path: A checkpoint written by the Trainer with a `UMECModule`.

    Raises:
        CheckpointError: If the file is missing, is no checkpoint, or holds another network.
    """
    from vos_umec.training.module import UMECModule  # here, since the module checks its checkpoints with this file

    if not Path(path).is_file():
        raise CheckpointError(f"no checkpoint at {path}; give a .ckpt file that training wrote")
    try:
        module = UMECModule.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of a UMECModule ({_first_line(error)}); "
            "give a .ckpt file that training wrote"
        ) from error
    return module.network.eval()


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


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
