"""Dense contrast: self-training of dense features against sparse anchors (METHOD section 3, after DUL)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.cells import jittered_grid, read_cells
from vos_umec.objectives.info_nce import info_nce, matching_cross_entropy
from vos_umec.transforms.geometric import GeometricTransform


class DenseContrastObjective(CorrespondenceObjective):
    """Classify every cell of the later frames among anchors of the first frames of all clips.

    Anchors are keys of each clip's first frame on a jittered lattice. A cell's label is the anchor of its own
    clip most like the same cell seen through Phi, without gradient; the student is the untransformed map,
    warped by Phi. The arg-max is over logits: the softmax the source takes first keeps their order. The cross
    view term matches the first frame's two views, cell by cell on a coarser lattice, with gradient on both.

    Source: "Dense Unsupervised Learning for Video Segmentation" (NeurIPS 2021), the schema METHOD.md calls
    dense contrast; a step encodes every frame twice, T - 1 of the second without gradient.

    Args:
        anchors: Lattice points along a side: anchors^2 a clip.
        tau: Temperature of the classification.
        w_cross: Weight of the cross view term.
        cross_anchors: Lattice points along a side in the cross view term.
        cross_tau: Temperature of the cross view term.
        phi_scale: Crop of Phi as a fraction of the side.
        flip: Probability that Phi flips.

    Raises:
        ConfigError: When a temperature or a number of anchors is not positive.

    Example:
        >>> from vos_umec.models.encoder import ResNetEncoder
        >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> clip = EncodedClip(E, torch.rand(2, 3, 3, 32, 32), torch.arange(3).expand(2, 3))
        >>> sorted(DenseContrastObjective()(clip))
        ['cross', 'cross_accuracy', 'dense', 'dense_accuracy', 'loss']
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
                f"dense contrast was given tau {tau}, cross_tau {cross_tau}, anchors {anchors}, cross_anchors "
                f"{cross_anchors}; temperatures must be above 0 and anchors at least 1"
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
            clip: Clips of at least two frames.

        Returns:
            "loss", its parts "dense" and "cross", and the share of cells that agree with their label in each:
            "dense_accuracy", "cross_accuracy" (parts and shares detached).

        Raises:
            ConfigError: When clips have one frame.
        """
        B, T = clip.frame_indices.shape
        if T < 2:
            raise ConfigError(f"dense contrast needs clips of 2 frames or more; found {T}")
        device = clip.frames.device
        size = (int(clip.frames.shape[-2]), int(clip.frames.shape[-1]))
        phi = GeometricTransform.sample(B, size, scale=self.phi_scale, flip=self.flip, device=device)
        views = phi.apply_image(clip.frames)  # (B, T, 3, H, W)
        keys = clip.keys  # (B, T, D, h, w)
        with torch.no_grad():  # after the keys: older torch reuses the weights that autocast cast first
            teacher = clip.encode(views[:, 1:].flatten(0, 1)).key.unflatten(0, (B, T - 1))
        grid = (int(keys.shape[-2]), int(keys.shape[-1]))
        student = F.normalize(phi.apply_features(keys), dim=2)

        anchors = read_cells(keys[:, 0], jittered_grid(B, grid, self.anchors, device))  # (B, A, D)
        dense, agree = self._classify(student[:, 1:], teacher, anchors)

        cells = jittered_grid(B, grid, self.cross_anchors, device)
        first_view = clip.encode(views[:, 0]).key
        cross, found = info_nce(
            read_cells(student[:, 0], cells),
            read_cells(first_view, cells),
            cells,
            phi.valid_mask(grid).flatten(1).gather(1, cells),
            width=grid[1],
            tau=self.cross_tau,
            radius=0.0,
        )
        return {
            "loss": dense + self.w_cross * cross,
            "dense": dense.detach(),
            "cross": cross.detach(),
            "dense_accuracy": agree,
            "cross_accuracy": found,
        }

    def _classify(self, student: Tensor, teacher: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of student cells (B, T-1, D, h, w) among all anchors (B, A, D), and its accuracy."""
        B, A = anchors.shape[:2]
        with torch.no_grad():
            own = torch.einsum("btdhw,bad->bthwa", teacher, anchors).argmax(dim=-1)  # (B, T-1, h, w)
            labels = own + A * torch.arange(B, device=own.device).view(B, 1, 1, 1)
        cells = student.permute(0, 1, 3, 4, 2).flatten(0, 3)  # (B*(T-1)*h*w, D)
        return matching_cross_entropy(cells, anchors.flatten(0, 1), labels.flatten(), self.tau)
