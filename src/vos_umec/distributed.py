"""What the processes of a training share: batches, sums, decisions. torch.distributed alone, no Lightning.

Training on several processes (DDP) averages their gradients. A loss over the rows of all processes is therefore
computed like this: each process compares its own rows with those of all (`gather_batch`), sums over its own rows,
and divides by the mean number of rows of a process (`count_per_process`). The mean over processes of the losses,
and of their gradients, is then that of one process with all rows.
"""

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")


def number_of_processes() -> int:
    """R, 1 without distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_batch(rows: Tensor) -> tuple[Tensor, int]:
    """Join the rows of all processes, in the order of their ranks. Every process asks, with the same shape.

    A `DistributedSampler` gives every process as many clips, so that their batches have one shape. Gradients come
    back to the process whose rows they are, summed over the losses of all processes.

    Args:
        rows: Rows of this process (B, ...).

    Returns:
        Rows of all R processes (R*B, ...), and the place of the first own one.

    Example:
        >>> rows, first = gather_batch(torch.ones(3, 2))
        >>> rows.shape, first
        (torch.Size([3, 2]), 0)
    """
    if number_of_processes() == 1:
        return rows, 0
    return _GatherBatch.apply(rows), dist.get_rank() * len(rows)


def gather_objects(value: Value) -> list[Value]:
    """The values of all processes, in the order of their ranks. Every process calls it, and waits for the others.

    Example:
        >>> gather_objects("alone")
        ['alone']
    """
    if number_of_processes() == 1:
        return [value]
    values = [value] * number_of_processes()
    dist.all_gather_object(values, value)
    return values


def count_per_process(count: Tensor) -> Tensor:
    """Mean of a count over all processes; 1 / R at least, so that it can be divided by. Every process asks.

    Args:
        count: Count of this process, any shape.

    Example:
        >>> count_per_process(torch.tensor([0, 7])).tolist()
        [1.0, 7.0]
    """
    return sum_over_processes(count).clamp(min=1) / number_of_processes()


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, without gradient. Every process asks."""
    total = x.detach().clone()
    if number_of_processes() > 1:
        dist.all_reduce(total)
    return total


def on_any_rank(here: bool, device: torch.device) -> bool:
    """Whether something holds on at least one process. Every process asks, and gets the same answer.

    Args:
        here: Whether it holds on this one.
        device: The device that this process trains on.

    Example:
        >>> on_any_rank(True, torch.device("cpu"))
        True
    """
    if number_of_processes() == 1:
        return here
    return bool(sum_over_processes(torch.full((), int(here), device=device)))


class _GatherBatch(torch.autograd.Function):
    """All-gather whose backward is a sum over processes; all_reduce, for gloo lacks reduce_scatter."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [
            torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())
        ]
        dist.all_gather(parts, rows.contiguous())
        own = dist.get_rank() * len(rows)
        ctx.own = slice(own, own + len(rows))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.own]
