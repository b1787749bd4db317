"""A few colors that stand for all of a batch, by k-means on the device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.matching.affinity import affinity, readout
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.cells import random_cells, read_cells
from vos_umec.transforms.color import from_lab, to_lab


@torch.no_grad()
def color_clusters(colors: Tensor, count: int, iterations: int = 10) -> Tensor:
    """Cluster colors by k-means, seeded far apart (k-means++).

    `vos_umec.clustering` is for the millions of wide points of a video; here a step of training clusters some ten
    thousand pairs of numbers.

    Args:
        colors: Points (n, C), n at least 1.
        count: Clusters; where there are fewer different colors, some of the centres are equal.
        iterations: Lloyd's iterations.

    Returns:
        Centres (count, C).

    Example:
        >>> points = torch.tensor([[0.0], [0.5], [5.0], [5.5]])
        >>> sorted(color_clusters(points, 2).flatten().tolist())
        [0.25, 5.25]
    """
    first = torch.randint(len(colors), (1,), device=colors.device)
    centres = colors[first]  # (1, C)
    apart = (colors - centres).square().sum(dim=1)  # (n,) to the nearest centre
    for _ in range(1, count):
        drawn = torch.multinomial(apart + 1e-12, 1)  # the addend for when every color is a centre
        centres = torch.cat((centres, colors[drawn]))
        apart = torch.minimum(apart, (colors - colors[drawn]).square().sum(dim=1))
    for _ in range(iterations):
        labels = nearest_color(colors, centres)
        sizes = torch.zeros(count, dtype=colors.dtype, device=colors.device)
        sizes.index_add_(0, labels, torch.ones_like(apart))
        sums = torch.zeros_like(centres).index_add_(0, labels, colors)
        centres = torch.where(sizes[:, None] > 0, sums / sizes[:, None].clamp(min=1), centres)
    return centres


def nearest_color(colors: Tensor, centres: Tensor) -> Tensor:
    """The number of each color's nearest centre.

    Args:
        colors: Points (..., C).
        centres: Centres (count, C).

    Returns:
        (...) int64, in [0, count).

    Example:
        >>> nearest_color(torch.tensor([[0.1], [4.0]]), torch.tensor([[0.0], [5.0]])).tolist()
        [0, 1]
    """
    return torch.cdist(colors, centres).argmin(dim=-1)


class ColorizationObjective(CorrespondenceObjective):
    """Predict the quantised color of each cell of a grey frame by pointing into the frames before it.

    a and b of Lab, averaged over each cell of E's grid, are quantised to `colors` clusters of the batch. E sees
    the clip in grey. Cells of every later frame point into the `references` frames before it along the affinity of
    the keys (eq. 4), and p_q = A^T [c_r1 ... c_rN], c one-hot colors, is a cell's distribution over colors:

        L = - mean_q log p_q[c_q],  over the query cells q whose color some reference has at all.

    Source: "Tracking Emerges by Colorizing Videos" (ECCV 2018). Ours clusters each batch anew rather than a data
    set once, which pointing allows, for the names of colors need to agree within a clip only; and it keeps
    unit-norm keys and a temperature, as the rest of UMEC does. Every frame is encoded once, in grey; E's features
    of the clip are not used. Nothing teaches E what to make of colors, so give it none in inference either:
    Encoder(color="grey").

    Args:
        colors: Clusters of (a, b).
        references: N at most, the frames before a query that it points into.
        samples: Query cells drawn from each frame; a quarter of them on a grid of 32 x 32.
        tau: Temperature.

    Raises:
        ConfigError: When a setting is out of range.

    Example:
        >>> from vos_umec.models.encoder import ResNetEncoder
        >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> clip = EncodedClip(E, torch.rand(2, 3, 3, 32, 32), torch.arange(3).expand(2, 3))
        >>> sorted(ColorizationObjective()(clip))
        ['colorization', 'colorization_accuracy', 'colorization_alike', 'loss']
    """

    def __init__(self, colors: int = 16, references: int = 3, samples: int = 256, tau: float = 0.05) -> None:
        super().__init__()
        if colors < 2 or min(references, samples) < 1 or tau <= 0:
            raise ConfigError(
                f"colorization was given {colors} colors, {references} references, {samples} samples and tau "
                f"{tau}; expected at least 2 colors, at least 1 of the others, and tau above 0"
            )
        self.colors = colors
        self.references = references
        self.samples = samples
        self.tau = tau

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least two frames.

        Returns:
            "loss", the same as "colorization"; "colorization_alike", what the loss would be if all keys were alike,
            so that E has learned something where the loss is below it; and "colorization_accuracy", the share of
            cells whose likeliest color is theirs. All but the loss are detached.

        Raises:
            ConfigError: When clips have one frame.
        """
        B, T = clip.frame_indices.shape
        if T < 2:
            raise ConfigError(f"colorization needs clips of 2 frames or more; found {T}")
        lab = to_lab(clip.frames)
        grey = torch.cat((lab[:, :, :1], torch.zeros_like(lab[:, :, 1:])), dim=2)
        keys = clip.encode(from_lab(grey).flatten(0, 1)).key.unflatten(0, (B, T))  # (B, T, D, h, w)
        ab = F.adaptive_avg_pool2d(lab[:, :, 1:].flatten(0, 1), (keys.shape[-2], keys.shape[-1]))
        color = self._quantise(ab).unflatten(0, (B, T))  # (B, T, h, w)
        everywhere = torch.ones_like(color[:, 0], dtype=torch.bool)
        pointed, alike, own = [], [], []
        for t in range(1, T):
            r = slice(max(0, t - self.references), t)
            cells, _ = random_cells(everywhere, self.samples)  # (B, S)
            A = affinity(keys[:, r], read_cells(keys[:, t], cells).transpose(1, 2), self.tau)  # (B, N*h*w, S)
            held = F.one_hot(color[:, r], self.colors).movedim(-1, 2).to(A.dtype)  # (B, N, colors, h, w)
            pointed.append(readout(A, held, (cells.shape[1], 1))[..., 0])  # (B, colors, S)
            alike.append(held.mean(dim=(1, 3, 4))[:, :, None].expand_as(pointed[-1]))
            own.append(color[:, t].flatten(1).gather(1, cells))
        p, c = torch.stack(pointed), torch.stack(own)  # (T-1, B, colors, S), (T-1, B, S)
        share = torch.stack(alike)
        known = share.gather(2, c[:, :, None])[:, :, 0] > 0  # (T-1, B, S)
        loss = _surprise(p, c, known)
        right = (p.argmax(dim=2) == c) & known
        return {
            "loss": loss,
            "colorization": loss.detach(),
            "colorization_alike": _surprise(share, c, known),
            "colorization_accuracy": right.sum() / known.sum().clamp(min=1),
        }

    def _quantise(self, ab: Tensor) -> Tensor:
        """Number of the cluster of each cell (n, h, w), of colors (n, 2, h, w)."""
        points = ab.movedim(1, -1)  # (n, h, w, 2)
        return nearest_color(points, color_clusters(points.flatten(0, 2), self.colors))


def _surprise(p: Tensor, c: Tensor, known: Tensor) -> Tensor:
    """Mean of - log p[c] over known cells; p (T-1, B, colors, S), the rest (T-1, B, S)."""
    log_p = (p.float().gather(2, c[:, :, None])[:, :, 0] + 1e-20).log()  # the addend for cells that are not known
    return -torch.where(known, log_p, 0.0).sum() / known.sum().clamp(min=1)
