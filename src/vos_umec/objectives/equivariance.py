"""UMEC's own correspondence learning: short-term and long-term equivariance (eq. 7 to 10)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.matching.dense import affinity, readout
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.cells import random_cells, read_cells
from vos_umec.objectives.info_nce import info_nce
from vos_umec.transforms.geometric import GeometricTransform


class EquivarianceObjective(CorrespondenceObjective):
    """L_corr = w_short L_short + w_long L_long, with Phi a random crop and flip.

    * Short term (eq. 7): E(Phi(I_t)) should equal Phi(E(I_t+1)), for a frame and the nearest one of the clip, at
      most `long_gap` apart.
    * Long term (eq. 8 to 10): E(I_t) should equal A^T Phi(E(I_t')), for frames at least `long_gap` apart. A is the
      affinity from E(Phi(I_t')) to E(I_t).

    "Equal" is measured on random cells by InfoNCE, whose negatives come from the clips of all processes. One
    transformed frame of each clip serves both terms, as I_t of the first and I_t' of the second. The long term
    leaves out the cells of I_t that Phi crops away. Each term leaves out clips without two frames near or far
    enough. Clips of a few short runs far apart suit both terms.

    Source: UMEC, Li et al., CVPR 2023, arXiv 2303.10100.

    Args:
        w_short: Weight of the short term; 1 learned more than 0.1 in short runs (52.6 against 50.0 J, one seed).
        w_long: Weight of the long term.
        tau: Temperature of the affinity and of InfoNCE.
        samples: Cells of each clip in each term.
        radius: Distance in cells up to which other cells of a clip are no negatives.
        long_gap: Smallest |t - t'| of the long term and largest of the short one, in frames of the video.
        phi_scale: Smallest and largest side of Phi's crop, as a fraction of the frame's.
        flip: Probability that Phi flips.

    Raises:
        ConfigError: If the temperature, the number of samples or the gap is not positive.
    """

    def __init__(
        self,
        w_short: float = 1.0,
        w_long: float = 1.0,
        tau: float = 0.05,
        samples: int = 256,
        radius: float = 2.0,
        long_gap: int = 5,
        phi_scale: tuple[float, float] = (0.5, 1.0),
        flip: float = 0.5,
    ) -> None:
        super().__init__()
        if tau <= 0 or samples < 1 or long_gap < 1:
            raise ConfigError(f"equivariance with {tau=}, {samples=}, {long_gap=}; expected all above 0")
        self.w_short = w_short
        self.w_long = w_long
        self.tau = tau
        self.samples = samples
        self.radius = radius
        self.long_gap = long_gap
        self.phi_scale = phi_scale
        self.flip = flip

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least two frames; shorter ones raise ConfigError.

        Returns:
            "loss"; its parts "short" and "long", 0 where no cell can be matched; the fraction of cells that find
            their match, "short_accuracy" and "long_accuracy"; and the fraction of clips in each term,
            "short_fraction" and "long_fraction". All but the loss are detached.
        """
        B, _ = clip.require_frames(2, "equivariance")
        device = clip.frames.device
        size = (int(clip.frames.shape[-2]), int(clip.frames.shape[-1]))
        rows = torch.arange(B, device=device)
        moved, near, has_near, far, has_far = _choose_frames(clip.frame_indices, self.long_gap)
        phi = GeometricTransform.sample(B, size, scale=self.phi_scale, flip=self.flip, device=device)
        transformed = clip.encode(phi.apply_image(clip.frames[rows, moved])).key  # (B, D, h, w)
        keys = clip.keys

        short, short_accuracy = self._short(transformed, keys[rows, near], phi, has_near)
        long, long_accuracy = self._long(transformed, keys[rows, moved], keys[rows, far], phi, has_far)
        return {
            "loss": self.w_short * short + self.w_long * long,
            "short": short.detach(),
            "long": long.detach(),
            "short_accuracy": short_accuracy,
            "long_accuracy": long_accuracy,
            "short_fraction": has_near.float().mean(),
            "long_fraction": has_far.float().mean(),
        }

    def pair_gaps(self, frame_indices: Tensor) -> dict[str, Tensor]:
        """Distances of the near and of the far pairs, for the terms that have a weight."""
        (every,) = super().pair_gaps(frame_indices).values()
        gaps = {}
        if self.w_short:
            gaps[f"the short term (at most {self.long_gap} frames apart)"] = every[every <= self.long_gap]
        if self.w_long:
            gaps[f"the long term (at least {self.long_gap} frames apart)"] = every[every >= self.long_gap]
        return gaps

    def _short(
        self, transformed: Tensor, keys: Tensor, phi: GeometricTransform, has_near: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Eq. 7: E(Phi(I_t)) against Phi(E(I_t+1)), `keys` being E(I_t+1); (B, D, h, w) each."""
        warped = F.normalize(phi.apply_features(keys), dim=1).detach()
        seen = phi.valid_mask((keys.shape[-2], keys.shape[-1]))  # (B, h, w)
        cells, valid = random_cells(seen & has_near[:, None, None], self.samples)
        x, y = read_cells(transformed, cells), read_cells(warped, cells)  # (B, S, D)
        return info_nce(x, y, cells, valid, keys.shape[-1], self.tau, self.radius)

    def _long(
        self, transformed: Tensor, keys: Tensor, keys_far: Tensor, phi: GeometricTransform, has_far: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Eq. 8 to 10: A^T Phi(E(I_t')) against E(I_t), `keys` being E(I_t') and `keys_far` E(I_t)."""
        kept = phi.inverse().valid_mask((transformed.shape[-2], transformed.shape[-1]))  # (B, h, w)
        cells, valid = random_cells(kept & has_far[:, None, None], self.samples)
        x = read_cells(keys_far, cells)  # (B, S, D)
        A = affinity(transformed[:, None], x.transpose(1, 2), self.tau)  # (B, h*w, S)
        warped = F.normalize(phi.apply_features(keys), dim=1).detach()
        read = readout(A, warped[:, None], (cells.shape[1], 1)).squeeze(-1).transpose(1, 2)  # (B, S, D)
        read = F.normalize(read.to(x.dtype), dim=2)
        return info_nce(read, x, cells, valid, keys.shape[-1], self.tau, self.radius)


def _choose_frames(indices: Tensor, gap: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Places in the clip of t', of the frame nearest to it, whether it is near, of t, whether it is far: (B,) each.

    t' and t are a random pair at least `gap` frames of the video apart, where the clip has one. Of two frames
    equally near to t', the later one is taken; near is at most `gap` frames away.
    """
    B, T = indices.shape
    rows = torch.arange(B, device=indices.device)
    apart = indices[:, None, :] - indices[:, :, None]  # (B, T, T), from row to column
    pair = (torch.rand(B, T, T, device=indices.device) + (apart.abs() >= gap)).flatten(1).argmax(dim=1)
    moved, far = pair // T, pair % T
    ahead = apart[rows, moved]  # (B, T) frames from t'
    halves = 2 * ahead.abs() - (ahead > 0).long()  # the later of two equally near frames comes first
    near = halves.masked_fill(ahead == 0, torch.iinfo(halves.dtype).max).argmin(dim=1)
    distance = ahead[rows, near].abs()  # 0 where all frames are the same one
    return moved, near, (distance > 0) & (distance <= gap), far, ahead[rows, far].abs() >= gap
