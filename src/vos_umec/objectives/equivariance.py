"""The two correspondence terms of UMEC: short-term and long-term equivariance (eq. 7 to 10)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.matching.affinity import affinity, readout
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.cells import random_cells, read_cells
from vos_umec.objectives.info_nce import info_nce
from vos_umec.transforms.geometric import GeometricTransform


class EquivarianceObjective(CorrespondenceObjective):
    """L_corr = w_short L_short + w_long L_long, both contrastive matching of cells.

    * short term (eq. 7): E(Phi(I_t)) ~ Phi(E(I_t+1)), frames next to each other in the clip;
    * long term (eq. 8 to 10): E(I_t) ~ A^T Phi(E(I_t')), |t - t'| >= `long_gap`, A the affinity from
      E(Phi(I_t')) to E(I_t), softmax over the pixels of Phi(t').

    One frame of each clip is transformed and serves both terms, as t of the first and t' of the second; all
    untransformed keys are the clip's. Cells of I_t that Phi crops out of I_t' have nothing to match and are
    left out of the long term, and so are clips without two frames far enough apart.

    Args:
        w_short: Weight of the short term; 1 learned more than 0.1 in short runs (52.6 against 50.0 J, one seed).
        w_long: Weight of the long term.
        tau: Temperature of the affinity and of the matching.
        samples: Cells a clip in each term.
        radius: Distance in cells up to which other cells of a clip are no negatives.
        long_gap: Smallest |t - t'| in raw frames.
        symmetric: Let gradients into the warped side too, and match both ways.
        phi_scale: Crop of Phi as a fraction of the side.
        flip: Probability that Phi flips.

    Raises:
        ConfigError: When the temperature, the number of samples or the gap is not positive.

    Example:
        >>> from vos_umec.models.encoder import ResNetEncoder
        >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> clip = EncodedClip(E, torch.rand(2, 3, 3, 32, 32), torch.tensor([[0, 4, 8], [0, 1, 2]]))
        >>> parts = EquivarianceObjective()(clip)
        >>> sorted(parts), float(parts["long_share"])
        (['long', 'long_accuracy', 'long_share', 'loss', 'short', 'short_accuracy'], 0.5)
    """

    def __init__(
        self,
        w_short: float = 1.0,
        w_long: float = 1.0,
        tau: float = 0.05,
        samples: int = 256,
        radius: float = 2.0,
        long_gap: int = 5,
        symmetric: bool = False,
        phi_scale: tuple[float, float] = (0.5, 1.0),
        flip: float = 0.5,
    ) -> None:
        super().__init__()
        if tau <= 0 or samples < 1 or long_gap < 1:
            raise ConfigError(
                f"equivariance was given tau {tau}, samples {samples} and long_gap {long_gap}; all must be above 0"
            )
        self.w_short = w_short
        self.w_long = w_long
        self.tau = tau
        self.samples = samples
        self.radius = radius
        self.long_gap = long_gap
        self.symmetric = symmetric
        self.phi_scale = phi_scale
        self.flip = flip

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least two frames.

        Returns:
            "loss", its parts "short" and "long", the share of sampled cells that find their match
            ("short_accuracy", "long_accuracy") and the share of clips in the long term ("long_share"); all but
            the loss are detached. Every figure is finite: a term without a cell is 0.

        Raises:
            ConfigError: When clips have one frame.
        """
        B, T = clip.frame_indices.shape
        if T < 2:
            raise ConfigError(f"equivariance needs clips of 2 frames or more; found {T}")
        device = clip.frames.device
        size = (int(clip.frames.shape[-2]), int(clip.frames.shape[-1]))
        rows = torch.arange(B, device=device)
        moved, next_to, far, has_far = _choose_frames(clip.frame_indices, self.long_gap)
        phi = GeometricTransform.sample(B, size, scale=self.phi_scale, flip=self.flip, device=device)
        transformed = clip.encode(phi.apply_image(clip.frames[rows, moved])).key  # (B, D, h, w)
        keys = clip.keys

        short, short_accuracy = self._short(transformed, keys[rows, next_to], phi)
        long, long_accuracy = self._long(transformed, keys[rows, moved], keys[rows, far], phi, has_far)
        return {
            "loss": self.w_short * short + self.w_long * long,
            "short": short.detach(),
            "long": long.detach(),
            "short_accuracy": short_accuracy,
            "long_accuracy": long_accuracy,
            "long_share": has_far.float().mean(),
        }

    def _short(self, transformed: Tensor, keys: Tensor, phi: GeometricTransform) -> tuple[Tensor, Tensor]:
        """Eq. 7: E(Phi(I_t)) (B, D, h, w) against Phi(E(I_t+1)), `keys` those of I_t+1 before Phi."""
        warped = F.normalize(phi.apply_features(keys), dim=1)
        cells, valid = random_cells(phi.valid_mask((keys.shape[-2], keys.shape[-1])), self.samples)
        y = read_cells(warped if self.symmetric else warped.detach(), cells)
        return self._match(read_cells(transformed, cells), y, cells, valid, keys.shape[-1])

    def _long(
        self, transformed: Tensor, keys: Tensor, keys_far: Tensor, phi: GeometricTransform, has_far: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Eq. 8 to 10: A^T Phi(E(I_t')), `keys` those of I_t' before Phi, against E(I_t), `keys_far`."""
        kept = phi.inverse().valid_mask((transformed.shape[-2], transformed.shape[-1]))  # (B, h, w)
        cells, valid = random_cells(kept & has_far[:, None, None], self.samples)
        x = read_cells(keys_far, cells)  # (B, S, D)
        A = affinity(transformed[:, None], x.transpose(1, 2), self.tau)  # (B, h*w, S)
        warped = F.normalize(phi.apply_features(keys), dim=1)
        values = warped if self.symmetric else warped.detach()
        gathered = readout(A, values[:, None], (cells.shape[1], 1)).squeeze(-1).transpose(1, 2)  # (B, S, D)
        return self._match(F.normalize(gathered.to(x.dtype), dim=2), x, cells, valid, keys.shape[-1])

    def _match(self, x: Tensor, y: Tensor, cells: Tensor, valid: Tensor, width: int) -> tuple[Tensor, Tensor]:
        loss, accuracy = info_nce(x, y, cells, valid, width, self.tau, self.radius)
        if self.symmetric:
            back, _ = info_nce(y, x, cells, valid, width, self.tau, self.radius)
            loss = (loss + back) / 2
        return loss, accuracy


def _choose_frames(indices: Tensor, gap: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places in the clip of t', of the frame next to it, of t, and whether t and t' are far apart: (B,) each.

    t' and t are a random pair at least `gap` raw frames apart where the clip has one. Next to t' is the frame
    that follows it in time, or precedes it when it is the last.
    """
    B, T = indices.shape
    rows = torch.arange(B, device=indices.device)
    apart = indices[:, None, :] - indices[:, :, None]  # (B, T, T), from row to column
    pair = (torch.rand(B, T, T, device=indices.device) + (apart.abs() >= gap)).flatten(1).argmax(dim=1)
    moved, far = pair // T, pair % T
    ahead = apart[rows, moved]  # (B, T) raw frames from t'
    distance = torch.where(
        ahead > 0, ahead, ahead.abs() + indices.abs().amax() + 1
    )  # the past after all of the future
    distance[rows, moved] = torch.iinfo(distance.dtype).max
    return moved, distance.argmin(dim=1), far, ahead[rows, far].abs() >= gap
