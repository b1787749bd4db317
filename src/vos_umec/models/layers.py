"""The residual block of the frame-mask encoder and the decoder, convs by parts, and soft aggregation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_prepared: dict[Any, tuple[Tensor, ...]] | None = None  # inside `weights_prepared_once`


@contextmanager
def weights_prepared_once() -> Iterator[None]:
    """Within it, what is made of a weight (a cut, a cast) is made once, however often V and D are called.

    Autocast keeps its casts of whole weights, but neither of parts nor of what a layer casts itself. Use it around
    calls that share one backward pass, without changes of weights in between.
    """
    global _prepared
    before, _prepared = _prepared, {}
    try:
        yield
    finally:
        _prepared = before


def prepared(key: Any, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What `make` makes of a weight; within `weights_prepared_once`, it is called once for each key."""
    if _prepared is None:
        return make()
    key = (key, torch.is_grad_enabled())  # what is made without gradients has none to give
    if key not in _prepared:
        _prepared[key] = make()
    return _prepared[key]


def conv_part(conv: nn.Conv2d, x: Tensor, start: int) -> Tensor:
    """The part of a conv's output that comes from some of its input channels.

    A conv is linear: over inputs joined along the channels it is the sum of its parts. A part that stays the
    same, for all objects of a frame or all rounds of refinement, need be computed only once.

    Args:
        conv: The conv over all channels, with zero padding.
        x: Some of its input channels (B, C', H, W).
        start: Position of the first of them; the part at position 0 holds the bias.

    Returns:
        The part of the output (B, C_out, H', W').

    Example:
        >>> import torch
        >>> conv, x = nn.Conv2d(5, 2, kernel_size=3, padding=1), torch.rand(1, 5, 6, 6)
        >>> parts = conv_part(conv, x[:, :3], start=0) + conv_part(conv, x[:, 3:], start=3)
        >>> torch.allclose(parts, conv(x), atol=1e-5)
        True
    """
    if x.shape[1] == conv.in_channels:
        whole: Tensor = conv(x)
        return whole
    stop, kind = start + x.shape[1], x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else conv.weight.dtype
    (weight,) = prepared((conv, start, stop, dtype), lambda: (conv.weight[:, start:stop].to(dtype),))
    bias = conv.bias if start == 0 else None
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


def add_to_objects(x: Tensor, frames: Tensor) -> Tensor:
    """Add a map of each frame to the maps of its objects, without a copy of it for each.

    Args:
        x: Maps of objects (n*K, C, h, w), the K objects of a frame next to each other.
        frames: Maps of their frames (n, C, h, w).

    Returns:
        The sums (n*K, C, h, w), in the memory layout of `x`.
    """
    # Not len(frames): torch.export would take it for a fixed number.
    sums: Tensor = x.unflatten(0, (frames.shape[0], -1)) + frames[:, None]  # (n, K, C, h, w)
    return sums.flatten(0, 1)


class ResidualBlock(nn.Module):
    """Pre-activation block of two 3x3 convs without normalisation, as STM's decoder has.

    Args:
        inputs: Channels in.
        outputs: Channels out; the shortcut is a 1x1 conv where they differ.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        return self.finish(*self.part(x))

    def part(self, x: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """The parts of the first conv and of the shortcut that come from the input channels from `start` on."""
        first = conv_part(self.conv1, F.relu(x), start)
        if isinstance(self.shortcut, nn.Conv2d):
            return first, conv_part(self.shortcut, x, start)
        return first, F.pad(x, (0, 0, 0, 0, start, self.inputs - start - x.shape[1]))

    def finish(self, first: Tensor, shortcut: Tensor) -> Tensor:
        """The output (B, outputs, h, w), from the sums of all parts."""
        residual: Tensor = self.conv2(F.relu(first))
        return shortcut + residual


_ABSENT = -1e4  # a logit that is nothing after any softmax, yet finite, so that interpolation keeps it


def soft_aggregate(p: Tensor, valid: Tensor | None = None) -> Tensor:
    """Join K object probabilities: p_bg = prod_k (1 - p_k), then logits log(p / (1 - p)) for K + 1 channels.

    Args:
        p: Probabilities (B, K, H, W) in [0, 1].
        valid: (B, K) bool, which objects exist; None means all.

    Returns:
        Logits (B, K+1, H, W), fp32, channel 0 the background; a softmax over dimension 1 gives the map. The
        channel of an object that does not exist gets a logit of -10000 and leaves the background alone.

    Example:
        >>> import torch
        >>> probabilities = torch.softmax(soft_aggregate(torch.tensor([0.9, 0.2]).view(1, 2, 1, 1)), dim=1)
        >>> [round(p, 3) for p in probabilities.flatten().tolist()]
        [0.009, 0.964, 0.027]
    """
    p = p.float()
    if valid is not None:
        p = p * valid[:, :, None, None]
    background = (1 - p).prod(dim=1, keepdim=True)  # (B, 1, H, W)
    logits = torch.logit(torch.cat([background, p], dim=1), eps=1e-7)  # (B, K+1, H, W)
    if valid is not None:
        logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(~valid[:, :, None, None], _ABSENT)], dim=1)
    return logits
