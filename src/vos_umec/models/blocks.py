"""The residual block that the frame-mask encoder's fusion and the decoder are made of."""

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Pre-activation block of two 3x3 convs without normalisation, as STM's decoder has.

    Args:
        inputs: Channels in.
        outputs: Channels out; a 1x1 conv carries the shortcut where they differ.

    Example:
        >>> import torch
        >>> tuple(ResidualBlock(8, 4)(torch.zeros(1, 8, 5, 6)).shape)
        (1, 4, 5, 6)
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        residual: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        shortcut: Tensor = self.shortcut(x)
        return shortcut + residual
