"""The decoder D: from what was carried over to a mask (UMEC eq. 6)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.errors import ConfigError
from vos_umec.models.blocks import ResidualBlock


class Decoder(nn.Module):
    """D([V_q, Vbar_q]) with skip connections from E, one object a row.

    Args:
        mask_dim: Dv, the width of each of the two mask embeddings.
        skip_dims: Channels of E's skips, coarse to fine.
        dims: Width before the first skip and after each skip; one more than there are skips.
        residual: Add the previous round's mask, as a logit, to the output. The last conv then starts at zero, so
            that an untrained decoder hands the coarse mask on: for small budgets of training.

    Example:
        >>> import torch
        >>> D = Decoder(mask_dim=4, skip_dims=(6, 5), dims=(8, 8, 8))
        >>> skips = (torch.zeros(2, 6, 8, 8), torch.zeros(2, 5, 16, 16))
        >>> tuple(D(torch.zeros(2, 8, 8, 8), skips, torch.full((2, 1, 64, 64), 0.5)).shape)
        (2, 1, 64, 64)
    """

    def __init__(
        self,
        mask_dim: int = 512,
        skip_dims: Sequence[int] = (128, 64),
        dims: Sequence[int] = (512, 256, 128),
        residual: bool = False,
    ) -> None:
        super().__init__()
        if len(dims) != len(skip_dims) + 1:
            raise ConfigError(
                f"the decoder takes one width more than there are skips; found {len(dims)} widths {tuple(dims)} "
                f"for {len(skip_dims)} skips"
            )
        self.residual = residual
        self.join = ResidualBlock(2 * mask_dim, dims[0])
        self.skips = nn.ModuleList(
            nn.Conv2d(skip, dim, kernel_size=3, padding=1) for skip, dim in zip(skip_dims, dims[:-1], strict=True)
        )
        self.blocks = nn.ModuleList(ResidualBlock(inputs, outputs) for inputs, outputs in pairwise(dims))
        self.out = nn.Conv2d(dims[-1], 1, kernel_size=3, padding=1)
        if residual:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, embeddings: Tensor, skips: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Decode one object a row.

        Args:
            embeddings: [V_q, Vbar_q] (B, 2 Dv, h, w).
            skips: E's skips, coarse to fine, (B, C_i, h_i, w_i).
            mask: The previous round's mask (B, 1, H, W) in [0, 1]; it gives the size and, in residual mode, the
                starting point.

        Returns:
            Mask logits (B, 1, H, W), fp32.
        """
        x = self.join(embeddings)  # (B, dims[0], h, w)
        for conv, block, skip in zip(self.skips, self.blocks, skips, strict=True):
            if x.shape[-2:] != skip.shape[-2:]:
                x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = block(x + conv(skip))
        logits = self.out(F.relu(x)).float()  # (B, 1, H/4, W/4)
        logits = F.interpolate(logits, size=mask.shape[-2:], mode="bilinear", align_corners=False)
        if self.residual:
            logits = logits + torch.logit(mask.float(), eps=0.01)
        return logits
