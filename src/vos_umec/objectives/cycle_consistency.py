"""Cycle consistency: walks over patches, forth and back in time (after CRW, arXiv 2006.14613)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.transforms.geometric import GeometricTransform


class CycleConsistencyObjective(CorrespondenceObjective):
    """Walk from patch to patch through the clip and back; every walk should end at the patch where it began.

    Each frame gives `grid` x `grid` overlapping patches, each cropped at random and encoded alone, so that the
    frame's border cannot reveal its position, then pooled to one unit-norm node. q_t are the nodes of frame t,
    A_t the softmax over rows of q_t q_{t+1}^T / tau and A'_t that of q_{t+1} q_t^T / tau, each with some edges
    dropped. The round trip over k frames and the loss over all sub-cycles are

        W_k = A_0 ... A_{k-1} A'_{k-1} ... A'_0,   L = - mean over k = 2..T-1 and i of log W_k[i, i].

    Source: "Space-Time Correspondence as a Contrastive Random Walk", Jabri et al., NeurIPS 2020, arXiv 2006.14613.
    Unlike there, nodes are pooled keys, which are matched later, and not the output of a separate head. Edges are
    dropped separately each way; its code drops them in place, so that the way back also lacks those of the way
    forth, 19 % in all. It crops each frame anew: for that give the data module `crop_each_frame: true`. The
    features of `EncodedClip` are not used; with the defaults the patches of a frame have three times its pixels.

    Args:
        grid: Patches along each side of a frame.
        patch: Side of a patch as a fraction of the frame's shorter side.
        jitter: Smallest and largest fraction of a patch's area that its random crop keeps.
        dropout: Probability that an edge is dropped.
        tau: Temperature.

    Raises:
        ConfigError: If a setting is out of range.
    """

    def __init__(
        self,
        grid: int = 7,
        patch: float = 0.25,
        jitter: tuple[float, float] = (0.7, 0.9),
        dropout: float = 0.1,
        tau: float = 0.05,
    ) -> None:
        super().__init__()
        fractions = 0 < patch <= 1 and 0 < jitter[0] <= jitter[1] <= 1 and 0 <= dropout < 1
        if grid < 2 or not fractions or tau <= 0:
            raise ConfigError(
                f"cycle consistency with {grid=}, {patch=}, {jitter=}, {dropout=}, {tau=}; expected a grid of at "
                "least 2, patch and rising jitter in (0, 1], dropout in [0, 1), tau above 0"
            )
        self.grid = grid
        self.patch = patch
        self.jitter = jitter
        self.dropout = dropout
        self.tau = tau

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least three frames, and patches of at least one pixel; others raise ConfigError.

        Returns:
            "loss"; the same as "cycle"; and "cycle_accuracy", the fraction of the longest walks, without dropped
            edges, that most likely end where they began. All but the loss are detached.
        """
        B, T = clip.require_frames(3, "cycle consistency")
        patches = self._patches(clip.frames.flatten(0, 1))  # (B*T*P, 3, p, p)
        pooled = clip.encode(patches).key.mean(dim=(2, 3))  # (B*T*P, D)
        nodes = F.normalize(pooled, dim=1).view(B, T, self.grid**2, -1)
        returned = self._walks(nodes, self.dropout).diagonal(dim1=2, dim2=3)  # (T-2, B, P)
        loss = -(returned + 1e-20).log().mean()  # finite for a walk that cannot return
        longest = self._walks(nodes.detach(), dropout=0.0)[-1]  # (B, P, P)
        home = longest.argmax(dim=2) == torch.arange(self.grid**2, device=longest.device)
        return {"loss": loss, "cycle": loss.detach(), "cycle_accuracy": home.float().mean()}

    def _patches(self, frames: Tensor) -> Tensor:
        """Randomly cropped patches (n*P, 3, p, p) of frames (n, 3, H, W), row by row."""
        H, W = frames.shape[-2:]
        p = round(self.patch * min(H, W))
        if p < 1:
            raise ConfigError(f"patch={self.patch} of {H} x {W} frames has no pixel; take larger frames or patches")
        tops, lefts = (
            torch.linspace(0, side - p, self.grid, dtype=torch.float64).round().int().tolist() for side in (H, W)
        )
        cut = torch.stack([frames[..., y : y + p, x : x + p] for y in tops for x in lefts], dim=1).flatten(0, 1)
        scale = (self.jitter[0] ** 0.5, self.jitter[1] ** 0.5)  # of the side
        jitter = GeometricTransform.sample(len(cut), (p, p), scale=scale, flip=0.0, device=frames.device)
        return jitter.apply_image(cut)

    def _walks(self, nodes: Tensor, dropout: float) -> Tensor:
        """Round trips W_2 to W_{T-1} (T-2, B, P, P) over nodes (B, T, P, D), without autocast."""
        with torch.autocast(nodes.device.type, enabled=False):
            scores = nodes[:, :-1] @ nodes[:, 1:].transpose(2, 3) / self.tau  # (B, T-1, P, P)
            both = torch.stack((scores, scores.transpose(2, 3)))  # forth and back
            dropped = torch.rand(both.shape, device=both.device) < dropout
            # Finite instead of -inf: all edges of a node may be dropped.
            forth, back = both.masked_fill(dropped, torch.finfo(both.dtype).min).softmax(dim=-1)
            out, home = forth[:, 0], back[:, 0]
            walks = []
            for t in range(1, forth.shape[1]):
                out, home = out @ forth[:, t], back[:, t] @ home
                walks.append(out @ home)
        return torch.stack(walks)
