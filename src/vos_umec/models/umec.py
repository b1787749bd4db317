"""The networks: PropagationNetwork, an encoder alone, and UMEC, which refines what it propagates."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.models.decoder import Decoder
from vos_umec.models.encoder import Encoder, Features
from vos_umec.models.hub import SharedModel
from vos_umec.models.layers import soft_aggregate
from vos_umec.models.mask_encoder import FrameFeatures, MaskEncoder


class PropagationNetwork(nn.Module, SharedModel):
    """E and the temperature of its affinity: all that label propagation needs, and what UMEC is built on.

    Args:
        encoder: E. Any module with Encoder's attributes may stand here.
        tau: Temperature of the affinity.
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


class UMEC(PropagationNetwork):
    """Unified mask embedding and correspondence network.

    E and A run once a frame; V and D run per object, with the K objects folded into the batch.

    Args:
        encoder: E. Any module with Encoder's attributes may stand here.
        mask_encoder: V.
        decoder: D.
        tau: Temperature of the affinity.
    """

    def __init__(self, encoder: Encoder, mask_encoder: MaskEncoder, decoder: Decoder, tau: float = 0.05) -> None:
        super().__init__(encoder, tau)
        self.mask_encoder = mask_encoder
        self.decoder = decoder

    def embed(self, frame: Tensor, features: Features, masks: Tensor) -> Tensor:
        """V([I, Y]) of every object (UMEC eq. 3; eq. 5 with a query's coarse masks).

        Args:
            frame: Normalised frames (B, 3, H, W).
            features: E's features of them.
            masks: Soft masks (B, K, H, W) in [0, 1].

        Returns:
            Mask embeddings (B, K, Dv, h, w).
        """
        return self._embed(self.mask_encoder.precompute(frame, features.trunk), masks)

    def decode(
        self,
        frame: Tensor,
        features: Features,
        values: Tensor,
        coarse: Tensor,
        rounds: int = 3,
        valid: Tensor | None = None,
        evidence: Tensor | None = None,
    ) -> list[Tensor]:
        """Yhat^k = D([V_q, V([I_q, Yhat^(k-1)])]) from Yhat^0, the coarse mask (UMEC eq. 5, 6 and table 4e).

        Args:
            frame: Normalised query frames (B, 3, H, W).
            features: E's features of them.
            values: V_q, the mask embeddings read out along the affinity (B, K, Dv, h, w).
            coarse: Ybar_q, the coarse masks (B, K, h, w) in [0, 1].
            rounds: R, refinement rounds; 0 gives the coarse mask alone.
            valid: (B, K) bool, which objects exist; None means all.
            evidence: The evidence of the read-out (B, K, 4, h, w), for a decoder that takes it.

        Returns:
            R + 1 aggregated logits (B, K+1, H, W), one a round, channel 0 the background.
        """
        K, size = coarse.shape[1], frame.shape[-2:]
        masks = F.interpolate(coarse.float(), size=size, mode="bilinear", align_corners=False).clamp(0, 1)
        logits = [soft_aggregate(masks, valid)]
        if rounds == 0:
            return logits
        # What no round changes is computed once.
        cached = self.mask_encoder.precompute(frame, features.trunk)
        skips = self.decoder.precompute(features.skips, frame)
        V_q = self.decoder.precompute_object(
            values.flatten(0, 1), None if evidence is None else evidence.flatten(0, 1)
        )
        for _ in range(rounds):
            Vbar_q = self._embed(cached, masks).flatten(0, 1)  # (B*K, Dv, h, w)
            refined = self.decoder(V_q, Vbar_q, skips, masks.flatten(0, 1)[:, None])  # (B*K, 1, H, W)
            logits.append(soft_aggregate(torch.sigmoid(refined).view(-1, K, *size), valid))
            masks = logits[-1].softmax(dim=1)[:, 1:]  # (B, K, H, W)
        return logits

    def _embed(self, cached: FrameFeatures, masks: Tensor) -> Tensor:
        values: Tensor = self.mask_encoder.embed(cached, masks.flatten(0, 1)[:, None])  # (B*K, Dv, h, w)
        by_frame: Tensor = values.unflatten(0, (-1, masks.shape[1]))
        return by_frame
