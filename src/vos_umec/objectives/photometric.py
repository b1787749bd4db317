"""Photometric reconstruction: copy a color hidden from E out of earlier frames (after MAST, arXiv 2002.07793)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vos_umec.errors import ConfigError
from vos_umec.matching.dense import window_readout
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.transforms.color import from_lab, to_lab

SCALE = 20.0
"""Factor of colors, as in the source: smooth-L1 turns linear at a difference of about 6 in a or b."""


class PhotometricObjective(CorrespondenceObjective):
    """Rebuild a dropped Lab channel of each frame from the frames before it.

    In each clip either a or b is dropped from all frames and the other two channels are multiplied by 3/2; E sees
    the result as normalized RGB. The dropped channel c, averaged over each cell, is then read out of the
    `references` frames before, along the affinity of the keys in a window (UMEC eq. 4):

        L = mean_q smooth-L1( 20 A^T c_r, 20 c_q )

    Source: "MAST: A Memory-Augmented Self-supervised Tracker", Lai et al., CVPR 2020, arXiv 2002.07793. Unlike
    there, keys have unit norm and a temperature, as elsewhere in UMEC, and the loss is taken on E's grid. Colors
    are averaged over each cell, where the source takes one pixel of it. Cells of the window outside the frame take
    no part, where in the source they have score 0 and color 0. The features of `EncodedClip` are not used.

    Args:
        references: Largest number of earlier frames that a frame is rebuilt from.
        radius: Radius of the window in cells: 6 at stride 4 and 3 at stride 8 reach as far as the source.
        tau: Temperature.

    Raises:
        ConfigError: If a setting is out of range.
    """

    def __init__(self, references: int = 2, radius: int = 6, tau: float = 0.05) -> None:
        super().__init__()
        if references < 1 or radius < 0 or tau <= 0:
            raise ConfigError(
                f"photometric reconstruction with {references=}, {radius=}, {tau=}; expected at least 1, at "
                "least 0 and above 0"
            )
        self.references = references
        self.radius = radius
        self.tau = tau

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least two frames; shorter ones raise ConfigError.

        Returns:
            "loss"; the same as "photometric"; and "photometric_still", the loss if each cell copied the same cell
            of the frame before: below it, E has learned to follow motion. All but the loss are detached.
        """
        B, T = clip.require_frames(2, "photometric reconstruction")
        altered, dropped = _drop_channel(to_lab(clip.frames))
        keys = clip.encode(from_lab(altered).flatten(0, 1)).key.unflatten(0, (B, T))  # (B, T, D, h, w)
        grid = (int(keys.shape[-2]), int(keys.shape[-1]))
        color = SCALE * F.adaptive_avg_pool2d(dropped.to(keys.dtype), grid)[:, :, None]  # (B, T, 1, h, w)
        rebuilt = []
        for t in range(1, T):
            r = slice(max(0, t - self.references), t)
            # Checkpointed: scores are computed again for the gradients instead of kept for all queries.
            inputs = (keys[:, t], keys[:, r], color[:, r], self.radius, self.tau)
            rebuilt.append(checkpoint(window_readout, *inputs, use_reentrant=False, preserve_rng_state=False))
        loss = F.smooth_l1_loss(torch.stack(rebuilt, dim=1), color[:, 1:])
        still = F.smooth_l1_loss(color[:, :-1], color[:, 1:])
        return {"loss": loss, "photometric": loss.detach(), "photometric_still": still}


def _drop_channel(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Hide a or b, drawn for each clip, from frames (B, T, 3, H, W) of L, a and b.

    Gives the frames with that channel 0 and the others times 3/2, and the hidden channel (B, T, H, W).
    """
    B = lab.shape[0]
    channel = torch.randint(1, 3, (B,), device=lab.device)
    hidden = F.one_hot(channel, 3).view(B, 1, 3, 1, 1).bool()
    dropped = torch.where(hidden, lab, 0.0).sum(dim=2)
    return torch.where(hidden, 0.0, 1.5 * lab), dropped
