"""How much a piece of work multiplies, and how fast this machine does that much and nothing else."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from harness import timed
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Conv = Sequence[Any]
"""The arguments of one convolution: input, weight, and where they are given bias, stride and the rest."""


class _Seen(TorchDispatchMode):
    """Notes the convolutions done inside the block, with the tensors that they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.convs: list[Conv] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it, and note it if it is a convolution."""
        if func in (torch.ops.aten.conv2d.default, torch.ops.aten.convolution.default):
            self.convs.append(args)
        return func(*args, **(kwargs or {}))


def convolutions(work: Callable[[], Any]) -> list[Conv]:
    """The convolutions that a piece of work does."""
    with torch.inference_mode(), _Seen() as seen:
        work()
    return seen.convs


def further(many: Sequence[Conv], few: Sequence[Conv]) -> list[Conv]:
    """Those of one list that the other one does not have, by their shapes."""
    there = Counter(map(_shapes, few))
    left = []
    for conv in many:
        if there[_shapes(conv)]:
            there[_shapes(conv)] -= 1
        else:
            left.append(conv)
    return left


def _shapes(conv: Conv) -> tuple[Any, ...]:
    x, weight = conv[:2]
    return x.dtype, x.shape, weight.shape, str(conv[3:])


@torch.inference_mode()
def do(convs: Sequence[Conv]) -> float:
    """Do convolutions one after another and nothing between them.

    Returns:
        Operations, 2 for each product that is summed.
    """
    return sum(2.0 * F.conv2d(*conv).numel() * conv[1][0].numel() for conv in convs)


@torch.inference_mode()
def matrix_product_rate(n: int = 2048, repeats: int = 9) -> float:
    """Operations a second of a plain product of two n x n matrices in bf16, the best of several."""
    a, b = torch.rand(2, n, n).bfloat16()
    out: Tensor = a @ b
    return 2.0 * n**3 / min(timed(lambda: torch.mm(a, b, out=out)) for _ in range(repeats))
