"""Working memory that one call leaves for the next."""

import torch
from torch import Tensor


class Scratch:
    """One block of memory, lent out again and again: fresh pages cost a read-out more than filling them.

    Whoever borrows it may overwrite it until the next one borrows it; one owner, one thread.

    Example:
        >>> scratch = Scratch()
        >>> first = scratch.borrow(6, like=torch.zeros(1))
        >>> scratch.borrow(4, like=torch.zeros(1)).data_ptr() == first.data_ptr()
        True
    """

    def __init__(self) -> None:
        self._block: Tensor | None = None

    def borrow(self, size: int, like: Tensor) -> Tensor:
        """Values of any content (size,), of the type and on the device of `like`."""
        block = self._block
        if block is None or len(block) < size or block.dtype != like.dtype or block.device != like.device:
            self._block = None  # given back before more is asked for
            with torch.inference_mode(False):  # a block made inside could not be written outside
                block = self._block = torch.empty(size, dtype=like.dtype, device=like.device)
        return block[:size]
