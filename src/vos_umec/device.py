"""Which device to use, what it multiplies in, and how tensors get there, without Lightning."""

import re
from typing import Any

import torch
from torch import Tensor

from vos_umec.errors import ConfigError, first_sentence


def multiplies_bf16(device: torch.device | str) -> bool:
    """Whether a device multiplies bf16 in hardware, so that convolutions in it are faster and not just smaller.

    Args:
        device: Any device of torch.

    Returns:
        True for CPUs with AVX512-BF16 or AMX and for CUDA GPUs with native bf16; False elsewhere.

    Example:
        >>> multiplies_bf16("mps")
        False
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        # Newer than our floor of torch: without it we cannot know, and fp32 is right everywhere.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False))
    return False


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device of a name; "auto" takes CUDA, else MPS, else the CPU.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1" or "mps", or a device of torch.

    Raises:
        ConfigError: If there is no such device here.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, colon, place = str(name).partition(":")
    found = {"cpu": 1, "cuda": cuda, "mps": int(mps)}  # how many there are
    if kind not in found or (colon and not re.fullmatch("[0-9]+", place)):
        raise ConfigError(f"there is no device '{name}'; give auto, cpu, cuda, cuda:1 or mps")
    here = ["cpu", *(f"cuda:{n}" for n in range(cuda)), *["mps"] * mps]
    if int(place or 0) >= found[kind]:
        why = ""
        if kind == "cuda" and not torch.backends.cuda.is_built():
            why = f", and torch {torch.__version__} is built without CUDA"
        raise ConfigError(f"this machine has no device '{name}'{why}; those it has: auto, {', '.join(here)}")
    try:
        torch.empty(0, device=str(name))
    except RuntimeError as error:  # it is there, and its driver or its memory is not ready
        raise ConfigError(
            f"device '{name}' cannot be used now ({first_sentence(error)}); those of this machine: auto, "
            f"{', '.join(here)}"
        ) from error
    return torch.device(name)


def send(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device. A CUDA GPU is not waited for: it reads pinned memory in its own time.

    Args:
        x: A tensor on the CPU.
        device: Where to copy it.

    Returns:
        The copy; where the device is the CPU, the tensor itself.
    """
    if device.type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
