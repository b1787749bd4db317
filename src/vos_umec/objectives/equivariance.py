"""UMEC's own correspondence learning: short-term and long-term equivariance (eq. 7 to 10)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.cells import jittered_grid, read_cells
from vos_umec.objectives.info_nce import anchor_cross_entropy, info_nce
from vos_umec.transforms.geometric import GeometricTransform


class EquivarianceObjective(CorrespondenceObjective):
    """L_corr = w_short L_short + w_long L_long, with Phi a random crop and flip.

    A frame I_t' of each clip is drawn at random.

    * Short term (eq. 7): E(Phi(I_t')) should equal Phi(E(I_t'+1)), I_t'+1 being the nearest frame of the clip, at
      most `long_gap` away. Cells on a lattice find their match among those of all clips (InfoNCE, with gradients
      into both sides). Things move meanwhile: the match is the most similar cell at most `search` cells away.
    * Long term (eq. 8 to 10): Phi(E(I_t)) should equal A^T E(I_t'), A being the affinity from E(I_t') to
      E(Phi(I_t)), for half the frames of a clip, at least `long_gap` away from I_t' where it has as many. The
      reference is a few dozen anchors of I_t', and A is hard and without gradient: E(Phi(I_t)) labels each cell
      with the most similar anchor, and Phi(E(I_t)) learns it among the anchors of all clips, by cross-entropy.

    "All clips" are those of all processes. Clips of a few short runs far apart suit both terms.

    How this differs from the paper: it writes the long term as E(I_t) = A^T Phi(E(I_t')), with Phi on the reference
    frame and a soft A over all its cells, and says no more than "contrastive matching" of either term. With Phi
    there, a cell of I_t would be labeled by itself instead of by another view of it. In this form the long term is
    close to `DenseContrastObjective`, by which the code that the paper's authors released trains E.

    Source: UMEC, Li et al., CVPR 2023, arXiv 2303.10100; anchors and hard labels as in DUL, Araslanov et al.,
    NeurIPS 2021, arXiv 2111.06265.

    Args:
        w_short: Weight of the short term.
        w_long: Weight of the long term.
        tau: Temperature of both.
        anchors: Lattice points along each side of I_t', so anchors^2 a clip.
        cells: Lattice points along each side in the short term, so cells^2 a clip. Cells that are close to each
            other may show the same thing: leave 4 or more from one point to the next.
        search: How far away in rows and columns the match of the short term may lie; 0: in the same cell.
        long_gap: Smallest |t - t'| of the long term and largest of the short one, in frames of the video.
        phi_scale: Smallest and largest side of Phi's crop, as a fraction of the frame's.
        flip: Probability that Phi flips.

    Raises:
        ConfigError: If the temperature, a number of lattice points or the gap is not positive, or the search is
            negative.
    """

    def __init__(
        self,
        w_short: float = 0.1,
        w_long: float = 1.0,
        tau: float = 0.07,
        anchors: int = 8,
        cells: int = 4,
        search: int = 3,
        long_gap: int = 5,
        phi_scale: tuple[float, float] = (0.5, 1.0),
        flip: float = 0.5,
    ) -> None:
        super().__init__()
        if tau <= 0 or min(anchors, cells, long_gap) < 1 or search < 0:
            raise ConfigError(
                f"equivariance with {tau=}, {anchors=}, {cells=}, {long_gap=}, {search=}; expected all above 0, "
                "search also 0"
            )
        self.w_short = w_short
        self.w_long = w_long
        self.tau = tau
        self.anchors = anchors
        self.cells = cells
        self.search = search
        self.long_gap = long_gap
        self.phi_scale = phi_scale
        self.flip = flip

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least two frames; shorter ones raise ConfigError.

        Returns:
            "loss"; its parts "short", 0 where no clip has two near frames, and "long"; the fraction of cells that
            find their match, "short_accuracy" and "long_accuracy"; and the fraction of the pairs of frames that are
            near and far enough, "short_fraction" and "long_fraction". All but the loss are detached.
        """
        B, _ = clip.require_frames(2, "equivariance")
        device = clip.frames.device
        size = (int(clip.frames.shape[-2]), int(clip.frames.shape[-1]))
        rows = torch.arange(B, device=device)
        chosen, near, has_near, far, is_far = _choose_frames(clip.frame_indices, self.long_gap)
        phi = GeometricTransform.sample(B, size, scale=self.phi_scale, flip=self.flip, device=device)
        keys = clip.keys  # (B, T, D, h, w)
        with torch.no_grad():  # after the keys: older torch reuses the weights that autocast cast first
            views = phi.apply_image(clip.frames[rows[:, None], far])  # (B, F, 3, H, W)
            teacher = clip.encode(views.flatten(0, 1)).key.unflatten(0, far.shape)  # (B, F, D, h, w)
        view = clip.encode(phi.apply_image(clip.frames[rows, chosen])).key  # (B, D, h, w)
        warped = F.normalize(phi.apply_features(keys), dim=2)  # (B, T, D, h, w)

        short, short_accuracy = self._short(view, warped[rows, near], has_near)
        lattice = jittered_grid(B, (int(keys.shape[-2]), int(keys.shape[-1])), self.anchors, device)
        anchors = read_cells(keys[rows, chosen], lattice)  # (B, A, D)
        long, long_accuracy = anchor_cross_entropy(warped[rows[:, None], far], teacher, anchors, self.tau)
        return {
            "loss": self.w_short * short + self.w_long * long,
            "short": short.detach(),
            "long": long.detach(),
            "short_accuracy": short_accuracy,
            "long_accuracy": long_accuracy,
            "short_fraction": has_near.float().mean(),
            "long_fraction": is_far.float().mean(),
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

    def _short(self, view: Tensor, warped: Tensor, has_near: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 7: E(Phi(I_t')) against Phi(E(I_t'+1)), (B, D, h, w) each, in clips (B,) that have a near frame."""
        grid = (int(view.shape[-2]), int(view.shape[-1]))
        cells = jittered_grid(len(view), grid, self.cells, view.device)  # (B, S)
        x = read_cells(view, cells)  # (B, S, D)
        y = read_cells(warped, _best_nearby(x, warped, cells, self.search))
        return info_nce(x, y, has_near[:, None].expand(cells.shape), self.tau)


@torch.no_grad()
def _best_nearby(x: Tensor, maps: Tensor, cells: Tensor, reach: int) -> Tensor:
    """The cell (B, S) of maps (B, D, h, w) most similar to each x (B, S, D), at most `reach` from its cell."""
    h, w = maps.shape[-2:]
    place = torch.arange(h * w, device=cells.device)
    rows = place // w - (cells // w)[:, :, None]  # (B, S, h*w)
    columns = place % w - (cells % w)[:, :, None]
    scores = torch.einsum("bsd,bdn->bsn", x, maps.flatten(2))
    return scores.masked_fill(torch.maximum(rows.abs(), columns.abs()) > reach, -torch.inf).argmax(dim=2)


def _choose_frames(indices: Tensor, gap: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draw frames by their places in the clips.

    t' is the first of a random pair at least `gap` frames of the video apart, where the clip has one. Of two frames
    equally near to it, the later one is taken.

    Args:
        indices: Number of each frame in its video (B, T).
        gap: Frames of the video.

    Returns:
        t' (B,); the frame nearest to it (B,), and whether that is at most `gap` away; half the frames of the clip
        (B, T // 2), at least `gap` away from t' where there are so many, and whether they are.
    """
    B, T = indices.shape
    apart = indices[:, None, :] - indices[:, :, None]  # (B, T, T), from row to column
    is_far = apart.abs() >= gap
    pair = (torch.rand(B, T, T, device=indices.device) + is_far).flatten(1).argmax(dim=1)
    chosen = pair // T
    rows = torch.arange(B, device=indices.device)
    ahead, is_far = apart[rows, chosen], is_far[rows, chosen]  # (B, T) frames from t'
    other = torch.arange(T, device=indices.device) != chosen[:, None]
    far = (torch.rand(B, T, device=indices.device) + is_far + other.long()).topk(T // 2, dim=1).indices  # (B, F)
    halves = 2 * ahead.abs() - (ahead > 0).long()  # the later of two equally near frames comes first
    near = halves.masked_fill(ahead == 0, torch.iinfo(halves.dtype).max).argmin(dim=1)
    distance = ahead[rows, near].abs()  # 0 where all frames are the same one
    return chosen, near, (distance > 0) & (distance <= gap), far, is_far.gather(1, far)
