"""Which device a command computes on."""

import torch

from vos_umec.errors import ConfigError


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" takes CUDA, else MPS, else the CPU.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        ConfigError: If there is no such device here.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(kind)
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:  # torch raises the latter where it is built without CUDA
        raise ConfigError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
