"""Networks from checkpoints."""

import pickle
from pathlib import Path

from vos_umec.errors import CheckpointError
from vos_umec.models.umec import UMEC
from vos_umec.training.module import UMECModule


def load_network(path: str | Path) -> UMEC:
    """The network of a training checkpoint, on the CPU and in evaluation mode.

    Args:
        path: A checkpoint written by the Trainer with a `UMECModule`.

    Raises:
        CheckpointError: If the file is missing, is no checkpoint, or holds another network.
    """
    return load_module(path).network


def load_module(path: str | Path) -> UMECModule:
    """The module of a training checkpoint, with its settings, on the CPU and in evaluation mode.

    Args:
        path: A checkpoint written by the Trainer with a `UMECModule`.

    Raises:
        CheckpointError: If the file is missing, is no checkpoint, or holds another network.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"no checkpoint at {path}; give a .ckpt file that training wrote")
    try:
        module = UMECModule.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of a UMECModule ({_first_line(error)}); "
            "give a .ckpt file that training wrote"
        ) from error
    return module.eval()


def _first_line(error: Exception) -> str:
    # The first sentence: what follows in torch's messages is advice that would load untrusted code.
    return (str(error) or type(error).__name__).strip().splitlines()[0].split(". ")[0]
