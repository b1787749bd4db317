"""Dense contrast: self-training of all cells against sparse anchors (after DUL, arXiv 2111.06265)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.cells import jittered_grid, read_cells
from vos_umec.objectives.info_nce import anchor_cross_entropy, info_nce
from vos_umec.transforms.geometric import GeometricTransform


class DenseContrastObjective(CorrespondenceObjective):
    """Classify every cell of a clip among anchors from one frame of each clip.

    Anchors are keys on a jittered lattice of frame a, which is drawn at random for each clip. With Phi a random
    crop and flip, the teacher E(Phi(I_t)), without gradient, labels each cell of the other frames with the anchor
    of its own clip that is most similar. The student Phi(E(I_t)) learns that label among the anchors of all clips,
    by cross-entropy. The cross-view term matches Phi(E(I_a)) with E(Phi(I_a)) on a coarser lattice by InfoNCE, with
    gradients into both. "All clips" are those of all processes. Each step encodes every frame twice.

    Source: "Dense Unsupervised Learning for Video Segmentation", Araslanov et al., NeurIPS 2021, arXiv 2111.06265.

    Args:
        anchors: Lattice points along each side, so anchors^2 a clip.
        tau: Temperature of the classification.
        w_cross: Weight of the cross-view term.
        cross_anchors: Lattice points along each side in the cross-view term.
        cross_tau: Temperature of the cross-view term.
        phi_scale: Smallest and largest side of Phi's crop, as a fraction of the frame's.
        flip: Probability that Phi flips.

    Raises:
        ConfigError: If a temperature or a number of anchors is not positive.
    """

    def __init__(
        self,
        anchors: int = 8,
        tau: float = 0.05,
        w_cross: float = 0.1,
        cross_anchors: int = 4,
        cross_tau: float = 0.05,
        phi_scale: tuple[float, float] = (0.5, 1.0),
        flip: float = 0.5,
    ) -> None:
        super().__init__()
        if min(tau, cross_tau) <= 0 or min(anchors, cross_anchors) < 1:
            raise ConfigError(
                f"dense contrast with {tau=}, {cross_tau=}, {anchors=}, {cross_anchors=}; expected all above 0"
            )
        self.anchors = anchors
        self.tau = tau
        self.w_cross = w_cross
        self.cross_anchors = cross_anchors
        self.cross_tau = cross_tau
        self.phi_scale = phi_scale
        self.flip = flip

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least two frames; shorter ones raise ConfigError.

        Returns:
            "loss", its parts "dense" and "cross", and the fraction of cells that agree with their label in each,
            "dense_accuracy" and "cross_accuracy". All but the loss are detached.
        """
        B, T = clip.require_frames(2, "dense contrast")
        device = clip.frames.device
        size = (int(clip.frames.shape[-2]), int(clip.frames.shape[-1]))
        chosen, others = _choose_frames(B, T, device)
        phi = GeometricTransform.sample(B, size, scale=self.phi_scale, flip=self.flip, device=device)
        views = phi.apply_image(clip.frames).flatten(0, 1)  # (B*T, 3, H, W)
        keys = clip.keys  # (B, T, D, h, w)
        with torch.no_grad():  # after the keys: older torch reuses the weights that autocast cast first
            teacher = clip.encode(views[others]).key.unflatten(0, (B, T - 1))
        grid = (int(keys.shape[-2]), int(keys.shape[-1]))
        student = F.normalize(phi.apply_features(keys), dim=2).flatten(0, 1)  # (B*T, D, h, w)

        anchors = read_cells(
            keys.flatten(0, 1).index_select(0, chosen), jittered_grid(B, grid, self.anchors, device)
        )  # (B, A, D)
        rest = student.index_select(0, others).unflatten(0, (B, T - 1))  # (B, T-1, D, h, w)
        dense, dense_accuracy = anchor_cross_entropy(rest, teacher, anchors, self.tau)

        cells = jittered_grid(B, grid, self.cross_anchors, device)
        view = clip.encode(views[chosen]).key  # (B, D, h, w)
        cross, cross_accuracy = info_nce(
            read_cells(student.index_select(0, chosen), cells),
            read_cells(view, cells),
            torch.ones_like(cells, dtype=torch.bool),  # Phi's crop is inside the frame
            self.cross_tau,
        )
        return {
            "loss": dense + self.w_cross * cross,
            "dense": dense.detach(),
            "cross": cross.detach(),
            "dense_accuracy": dense_accuracy,
            "cross_accuracy": cross_accuracy,
        }


def _choose_frames(B: int, T: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw one frame of each clip: its place (B,) among the B*T frames of the batch, and those of the others."""
    drawn = torch.randint(T, (B, 1), device=device)
    in_clip = (drawn + torch.arange(T, device=device)) % T  # (B, T), the drawn one first
    places = torch.arange(0, B * T, T, device=device)[:, None] + in_clip
    return places[:, 0], places[:, 1:].flatten()
