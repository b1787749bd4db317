"""Photometric reconstruction: a color hidden from E, copied from frames before (METHOD section 3, after MAST)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vos_umec.errors import ConfigError
from vos_umec.matching.affinity import window_readout
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.transforms.color import from_lab, to_lab

SCALE = 20.0
"""Colors are taken times 20, as in the source, so that smooth-L1 turns linear at a difference of 6 in a or b."""


class PhotometricObjective(CorrespondenceObjective):
    """Rebuild a dropped Lab channel of each frame from the frames before it.

    In each clip either a or b is dropped from every frame, and the other two channels are multiplied by 3/2; E sees
    that picture, turned back into normalised RGB. Every later frame's dropped channel is then read out of the
    `references` frames before it, along the affinity of the keys in a window (eq. 4), and

        L = mean_q smooth-L1( 20 A^T c_r, 20 c_q ),  c the dropped channel, averaged over each cell.

    Source: "MAST: A Memory-Augmented Self-supervised Tracker" (CVPR 2020). Ours keeps unit-norm keys and a
    temperature, as the rest of UMEC does, where the source has neither, and works on E's grid instead of
    enlarging what was read out. Every frame is encoded once, altered; E's features of the clip are not used.

    Args:
        references: N at most, the frames before a query that it is rebuilt from.
        radius: Reach of the window in cells: 6 at stride 4, 3 at stride 8 see as far as the source.
        tau: Temperature.

    Raises:
        ConfigError: When a setting is out of range.

    Example:
        >>> from vos_umec.models.encoder import ResNetEncoder
        >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> clip = EncodedClip(E, torch.rand(2, 3, 3, 32, 32), torch.arange(3).expand(2, 3))
        >>> sorted(PhotometricObjective()(clip))
        ['loss', 'photometric', 'photometric_still']
    """

    def __init__(self, references: int = 2, radius: int = 6, tau: float = 0.05) -> None:
        super().__init__()
        if references < 1 or radius < 0 or tau <= 0:
            raise ConfigError(
                f"photometric reconstruction was given {references} references, radius {radius} and tau {tau}; "
                "expected at least 1, at least 0 and above 0"
            )
        self.references = references
        self.radius = radius
        self.tau = tau

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least two frames.

        Returns:
            "loss", the same as "photometric", and "photometric_still", what the loss would be if each cell copied
            the same cell of the frame before: E has found motion where it is below that. The last two detached.

        Raises:
            ConfigError: When clips have one frame.
        """
        B, T = clip.frame_indices.shape
        if T < 2:
            raise ConfigError(f"photometric reconstruction needs clips of 2 frames or more; found {T}")
        altered, dropped = drop_channel(to_lab(clip.frames))
        keys = clip.encode(from_lab(altered).flatten(0, 1)).key.unflatten(0, (B, T))  # (B, T, D, h, w)
        grid = (int(keys.shape[-2]), int(keys.shape[-1]))
        color = SCALE * F.adaptive_avg_pool2d(dropped.to(keys.dtype), grid)[:, :, None]  # (B, T, 1, h, w)
        rebuilt = []
        for t in range(1, T):
            r = slice(max(0, t - self.references), t)
            # The scores of one query at a time are made, and made again for the gradients, instead of all kept.
            inputs = (keys[:, t], keys[:, r], color[:, r], self.radius, self.tau)
            rebuilt.append(checkpoint(window_readout, *inputs, use_reentrant=False, preserve_rng_state=False))
        loss = F.smooth_l1_loss(torch.stack(rebuilt, dim=1), color[:, 1:])
        still = F.smooth_l1_loss(color[:, :-1], color[:, 1:])
        return {"loss": loss, "photometric": loss.detach(), "photometric_still": still}


def drop_channel(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Hide a or b, drawn for each clip, from all of its frames.

    Args:
        lab: L, a, b as `to_lab` gives them (B, T, 3, H, W).

    Returns:
        The picture with that channel 0 and the others times 3/2 (B, T, 3, H, W), and the hidden channel as it was
        (B, T, H, W).

    Example:
        >>> altered, dropped = drop_channel(torch.full((1, 2, 3, 1, 1), 0.5))
        >>> sorted(altered[0, 0].flatten().tolist()), dropped.flatten().tolist()
        ([0.0, 0.75, 0.75], [0.5, 0.5])
    """
    B = lab.shape[0]
    channel = torch.randint(1, 3, (B,), device=lab.device)
    hidden = F.one_hot(channel, 3).view(B, 1, 3, 1, 1).bool()
    dropped = torch.where(hidden, lab, 0.0).sum(dim=2)
    return torch.where(hidden, 0.0, 1.5 * lab), dropped
