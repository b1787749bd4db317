"""What the processes of a training decide together; torch.distributed alone, no Lightning."""

import torch
import torch.distributed as dist


def on_any_rank(here: bool, device: torch.device) -> bool:
    """Whether something holds on at least one process. Every process asks, and gets the same answer.

    Args:
        here: Whether it holds on this one.
        device: The device that this process trains on.

    Example:
        >>> on_any_rank(True, torch.device("cpu"))
        True
    """
    if not (dist.is_available() and dist.is_initialized()):
        return here
    flag = torch.tensor(int(here), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)
