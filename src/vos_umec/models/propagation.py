"""The encoder alone: masks are carried along its affinity and nothing refines them."""

import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.models.encoder import Encoder


class PropagationNetwork(nn.Module):
    """E and the temperature of its affinity: all that label propagation needs, and what UMEC is built on.

    Args:
        encoder: E. Any module with Encoder's attributes may stand here.
        tau: Temperature of the affinity.

    Example:
        >>> import torch
        >>> network = PropagationNetwork(Encoder(blocks=(1, 1), strides=(1, 2)))
        >>> network.stride, tuple(network.to_grid(torch.ones(2, 32, 48)).shape)
        (8, (2, 4, 6))
    """

    def __init__(self, encoder: Encoder, tau: float = 0.05) -> None:
        super().__init__()
        self.encoder = encoder
        self.tau = tau

    @property
    def stride(self) -> int:
        """s, pixels to a side of a cell."""
        return self.encoder.stride

    def to_grid(self, masks: Tensor) -> Tensor:
        """Soft masks (..., H, W) averaged over the cells of the feature grid (..., h, w)."""
        flat = masks.flatten(0, -3)[:, None].float() if masks.dim() > 2 else masks[None, None].float()
        return F.avg_pool2d(flat, self.stride).reshape(
            *masks.shape[:-2], masks.shape[-2] // self.stride, masks.shape[-1] // self.stride
        )
