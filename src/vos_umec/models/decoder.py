"""The decoder D: from the mask embedding read out of memory to a mask (UMEC eq. 6)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.errors import ConfigError
from vos_umec.matching.evidence import EVIDENCE
from vos_umec.models.layers import ResidualBlock, add_to_objects, conv_part

EVIDENCE_DIM = 16
"""Width to which the evidence is brought."""


class Decoder(nn.Module):
    """D([V_q, Vbar_q]) with skip connections from E, one object a row.

    Args:
        mask_dim: Dv, the width of each of the two mask embeddings.
        skip_dims: Channels of E's skips, coarse to fine.
        dims: Width before the first skip and after each skip; one more than there are skips.
        image_dim: Width of a last stage at full resolution, which sees the frame and the previous round's mask, so
            that edges need not be guessed from E's skips; 0 for none.
        evidence: Take the evidence of the read-out (`match_evidence`) beside V_q.
        residual: Add the previous round's mask, as a logit, to the output. The last conv then starts at zero, so
            that an untrained decoder returns the coarse mask: for small budgets of training.
    """

    def __init__(
        self,
        mask_dim: int = 512,
        skip_dims: Sequence[int] = (128, 64),
        dims: Sequence[int] = (512, 256, 128),
        image_dim: int = 0,
        evidence: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if len(dims) != len(skip_dims) + 1:
            raise ConfigError(
                f"the decoder takes one width more than there are skips; found {len(dims)} widths {tuple(dims)} "
                f"for {len(skip_dims)} skips"
            )
        self.residual = residual
        self.mask_dim = mask_dim
        self.evidence = nn.Conv2d(EVIDENCE, EVIDENCE_DIM, kernel_size=1) if evidence else None
        self.join = ResidualBlock(2 * mask_dim + (EVIDENCE_DIM if evidence else 0), dims[0])
        self.skips = nn.ModuleList(
            nn.Conv2d(skip, dim, kernel_size=3, padding=1) for skip, dim in zip(skip_dims, dims[:-1], strict=True)
        )
        self.blocks = nn.ModuleList(ResidualBlock(inputs, outputs) for inputs, outputs in pairwise(dims))
        self.image_dim = image_dim
        if image_dim:
            self.narrow = nn.Conv2d(dims[-1], image_dim, kernel_size=1)
            self.image = nn.Conv2d(4, image_dim, kernel_size=3, padding=1)  # RGB and a mask
            self.sharpen = ResidualBlock(image_dim, image_dim)
        self.out = nn.Conv2d(image_dim or dims[-1], 1, kernel_size=3, padding=1)
        if residual:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def precompute(self, skips: Sequence[Tensor], frame: Tensor) -> list[Tensor]:
        """Compute the part of the decoder's work that is the same for every object and round.

        Args:
            skips: E's skips, coarse to fine, (B, C_i, h_i, w_i).
            frame: Normalised frames (B, 3, H, W).

        Returns:
            One tensor (B, dims[i], h_i, w_i) a skip; then, with `image_dim`, the frame's (B, image_dim, H, W).
        """
        cached = [conv(skip) for conv, skip in zip(self.skips, skips, strict=True)]
        return [*cached, conv_part(self.image, frame, start=0)] if self.image_dim else cached

    def precompute_object(self, V_q: Tensor, evidence: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the part of the first block's work that is the same for every round of an object.

        Args:
            V_q: The mask embedding read out along the affinity, one object a row (B, Dv, h, w).
            evidence: The evidence of the read-out (B, 4, h, w), for a decoder that takes it.

        Returns:
            Their parts of the first conv and of the shortcut, (B, dims[0], h, w) each.

        Raises:
            ConfigError: If the decoder takes evidence and there is none.
        """
        if self.evidence is None:
            return self.join.part(V_q)
        if evidence is None:
            raise ConfigError("this decoder takes evidence, and there is none; give that of the read-out")
        return self.join.part(torch.cat((V_q, self.evidence(evidence).to(V_q.dtype)), dim=1))

    def forward(self, V_q: tuple[Tensor, Tensor], Vbar_q: Tensor, skips: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Decode one object a row.

        Args:
            V_q: The result of `precompute_object`.
            Vbar_q: The embedding of the query frame with the previous round's mask (B, Dv, h, w).
            skips: The result of `precompute`, for B / K frames of K objects each, next to each other.
            mask: The previous round's mask (B, 1, H, W) in [0, 1]; it gives the size and, in residual mode, the
                starting point.

        Returns:
            Mask logits (B, 1, H, W), fp32.
        """
        first, shortcut = self.join.part(Vbar_q, start=self.join.inputs - self.mask_dim)
        x = self.join.finish(V_q[0] + first, V_q[1] + shortcut)  # (B, dims[0], h, w)
        for block, skip in zip(self.blocks, skips, strict=False):
            x = block(add_to_objects(_resized(x, skip.shape[-2:]), skip))
        if self.image_dim:
            seen = add_to_objects(conv_part(self.image, mask.to(skips[-1].dtype), start=3), skips[-1])
            x = self.sharpen(_resized(self.narrow(F.relu(x)), seen.shape[-2:]) + seen)
        logits = _resized(self.out(F.relu(x)).float(), mask.shape[-2:])  # (B, 1, H, W)
        if self.residual:
            logits = logits + torch.logit(mask.float(), eps=0.01)
        return logits


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
