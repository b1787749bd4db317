"""Cycle consistency: walks over patches, out and back, end where they began (METHOD section 3, after CRW)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.transforms.geometric import GeometricTransform


class CycleConsistencyObjective(CorrespondenceObjective):
    """Palindrome walks on the graph of a clip's patches; every walk should return to its own node.

    Each frame gives `grid` x `grid` overlapping patches, each jittered by a random crop of its own, encoded on its
    own, so that no position leaks in through the frame's border, and pooled to one unit-norm node. With q_t the
    nodes of frame t, A_t = softmax over rows of q_t q_{t+1}^T / tau and A'_t that of q_{t+1} q_t^T / tau, edges
    dropped from each separately, the round trip over k frames and the loss over all sub-cycles are

        W_k = A_0 ... A_{k-1} A'_{k-1} ... A'_0,   L = - mean over k = 2..T-1 and i of log W_k[i, i].

    Source: "Space-Time Correspondence as a Contrastive Random Walk" (NeurIPS 2020). Ours pools keys, which are what
    is matched later, where the source puts a head on pooled trunk features. With the defaults 49 patches have three
    times the frame's pixels, all encoded; E's features of the clip are not used.

    Args:
        grid: Patches along each side of a frame.
        patch: Side of a patch as a fraction of the frame's shorter side: 64 px of 256, 32 of 128.
        jitter: Smallest and largest share of a patch's area that its random crop keeps.
        dropout: Probability that an edge is dropped.
        tau: Temperature.

    Raises:
        ConfigError: When a setting is out of range.

    Example:
        >>> from vos_umec.models.encoder import ResNetEncoder
        >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> clip = EncodedClip(E, torch.rand(1, 3, 3, 64, 64), torch.arange(3)[None])
        >>> sorted(CycleConsistencyObjective()(clip))
        ['cycle', 'cycle_accuracy', 'loss']
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
        if (
            grid < 2
            or not 0 < patch <= 1
            or not 0 < jitter[0] <= jitter[1] <= 1
            or not 0 <= dropout < 1
            or tau <= 0
        ):
            raise ConfigError(
                f"cycle consistency was given grid {grid}, patch {patch}, jitter {tuple(jitter)}, dropout "
                f"{dropout} and tau {tau}; expected at least 2, shares in (0, 1], a probability below 1, above 0"
            )
        self.grid = grid
        self.patch = patch
        self.jitter = jitter
        self.dropout = dropout
        self.tau = tau

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least three frames.

        Returns:
            "loss", the same as "cycle", and "cycle_accuracy", the share of the longest walks, no edge dropped, that
            are likelier to end where they began than anywhere else. The last two detached.

        Raises:
            ConfigError: When clips have less than three frames, or a patch has no pixel.
        """
        B, T = clip.frame_indices.shape
        if T < 3:
            raise ConfigError(f"cycle consistency needs clips of 3 frames or more; found {T}")
        patches = self._patches(clip.frames.flatten(0, 1))  # (B*T*P, 3, p, p)
        pooled = clip.encode(patches).key.mean(dim=(2, 3))  # (B*T*P, D)
        nodes = F.normalize(pooled, dim=1).view(B, T, self.grid**2, -1)
        returned = self._walks(nodes, self.dropout).diagonal(dim1=2, dim2=3)  # (T-2, B, P)
        loss = -(returned + 1e-20).log().mean()  # the addend keeps a walk that cannot return finite
        longest = self._walks(nodes.detach(), dropout=0.0)[-1]  # (B, P, P)
        home = longest.argmax(dim=2) == torch.arange(self.grid**2, device=longest.device)
        return {"loss": loss, "cycle": loss.detach(), "cycle_accuracy": home.float().mean()}

    def _patches(self, frames: Tensor) -> Tensor:
        """Jittered patches (n*P, 3, p, p) of frames (n, 3, H, W), those of a frame row by row."""
        H, W = frames.shape[-2:]
        p = round(self.patch * min(H, W))
        if p < 1:
            raise ConfigError(
                f"a patch of {self.patch} of {H} x {W} frames has no pixel; give larger frames or patches"
            )
        tops, lefts = (
            torch.linspace(0, side - p, self.grid, dtype=torch.float64).round().int().tolist() for side in (H, W)
        )
        cut = torch.stack([frames[..., y : y + p, x : x + p] for y in tops for x in lefts], dim=1).flatten(0, 1)
        scale = (self.jitter[0] ** 0.5, self.jitter[1] ** 0.5)  # of the side
        jitter = GeometricTransform.sample(len(cut), (p, p), scale=scale, flip=0.0, device=frames.device)
        return jitter.apply_image(cut)

    def _walks(self, nodes: Tensor, dropout: float) -> Tensor:
        """Round trips W_2 to W_{T-1} (T-2, B, P, P) over nodes (B, T, P, D), in fp32 whatever autocast says."""
        with torch.autocast(nodes.device.type, enabled=False):
            scores = nodes[:, :-1] @ nodes[:, 1:].transpose(2, 3) / self.tau  # (B, T-1, P, P)
            both = torch.stack((scores, scores.transpose(2, 3)))  # there and back
            dropped = torch.rand(both.shape, device=both.device) < dropout
            # Finite, for all edges of a node may be dropped.
            there, back = both.masked_fill(dropped, torch.finfo(both.dtype).min).softmax(dim=-1)
            out, home = there[:, 0], back[:, 0]
            walks = []
            for t in range(1, there.shape[1]):
                out, home = out @ there[:, t], back[:, t] @ home
                walks.append(out @ home)
        return torch.stack(walks)
