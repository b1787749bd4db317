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

    * Short term (eq. 7): E(Phi(I_t)) should equal Phi(E(I_t+1)), for neighboring frames of the clip.
    * Long term (eq. 8 to 10): E(I_t) should equal A^T Phi(E(I_t')), for frames at least `long_gap` apart. A is the
      affinity from E(Phi(I_t')) to E(I_t).

    "Equal" is measured on random cells by InfoNCE, whose negatives come from the clips of all processes. One
    transformed frame of each clip serves both terms, as I_t of the first and I_t' of the second. The long term
    leaves out the cells of I_t that Phi crops away, and clips without two frames far enough apart.

    Source: UMEC, Li et al., CVPR 2023, arXiv 2303.10100.

    Args:
        w_short: Weight of the short term; 1 learned more than 0.1 in short runs (52.6 against 50.0 J, one seed).
        w_long: Weight of the long term.
        tau: Temperature of the affinity and of InfoNCE.
        samples: Cells of each clip in each term.
        radius: Distance in cells up to which other cells of a clip are no negatives.
        long_gap: Smallest |t - t'| in frames of the video.
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
            their match, "short_accuracy" and "long_accuracy"; and the fraction of clips in the long term,
            "long_fraction". All but the loss are detached.
        """
        B, _ = clip.require_frames(2, "equivariance")
        device = clip.frames.device
        size = (int(clip.frames.shape[-2]), int(clip.frames.shape[-1]))
        rows = torch.arange(B, device=device)
        moved, neighbor, far, has_far = _choose_frames(clip.frame_indices, self.long_gap)
        phi = GeometricTransform.sample(B, size, scale=self.phi_scale, flip=self.flip, device=device)
        transformed = clip.encode(phi.apply_image(clip.frames[rows, moved])).key  # (B, D, h, w)
        keys = clip.keys

        short, short_accuracy = self._short(transformed, keys[rows, neighbor], phi)
        long, long_accuracy = self._long(transformed, keys[rows, moved], keys[rows, far], phi, has_far)
        return {
            "loss": self.w_short * short + self.w_long * long,
            "short": short.detach(),
            "long": long.detach(),
            "short_accuracy": short_accuracy,
            "long_accuracy": long_accuracy,
            "long_fraction": has_far.float().mean(),
        }

    def _short(self, transformed: Tensor, keys: Tensor, phi: GeometricTransform) -> tuple[Tensor, Tensor]:
        """Eq. 7: E(Phi(I_t)) against Phi(E(I_t+1)), `keys` being E(I_t+1); (B, D, h, w) each."""
        warped = F.normalize(phi.apply_features(keys), dim=1).detach()
        cells, valid = random_cells(phi.valid_mask((keys.shape[-2], keys.shape[-1])), self.samples)
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


def _choose_frames(indices: Tensor, gap: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places in the clip of t', of its neighbor and of t, and whether t and t' are far apart: (B,) each.

    t' and t are a random pair at least `gap` frames of the video apart, where the clip has one. The neighbor of t'
    is the frame that follows it in time, or the one before where t' is the last.
    """
    B, T = indices.shape
    rows = torch.arange(B, device=indices.device)
    apart = indices[:, None, :] - indices[:, :, None]  # (B, T, T), from row to column
    pair = (torch.rand(B, T, T, device=indices.device) + (apart.abs() >= gap)).flatten(1).argmax(dim=1)
    moved, far = pair // T, pair % T
    ahead = apart[rows, moved]  # (B, T) frames from t'
    past = ahead.abs() + indices.abs().amax() + 1  # farther than all that lies ahead
    distance = torch.where(ahead > 0, ahead, past)
    distance[rows, moved] = torch.iinfo(distance.dtype).max
    return moved, distance.argmin(dim=1), far, ahead[rows, far].abs() >= gap
