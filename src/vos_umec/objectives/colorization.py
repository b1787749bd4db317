"""Colorization by pointing: a grey frame takes its colours from the frames before."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.models.affinity import affinity, read_out
from vos_umec.models.colour import from_lab, to_lab
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.cells import random_cells, read_cells
from vos_umec.objectives.colour_clusters import colour_clusters, nearest_colour


class ColorizationObjective(CorrespondenceObjective):
    """Predict the quantised colour of each cell of a grey frame by pointing into the frames before it.

    a and b of Lab, averaged over each cell of E's grid, are quantised to `colours` clusters of the batch. E sees
    the clip in grey. Cells of every later frame point into the `references` frames before it along the affinity of
    the keys (eq. 4), and p_q = A^T [c_r1 ... c_rN], c one-hot colours, is a cell's distribution over colours:

        L = - mean_q log p_q[c_q],  over the query cells q whose colour some reference has at all.

    Source: "Tracking Emerges by Colorizing Videos" (ECCV 2018). Ours clusters each batch anew rather than a data
    set once, which pointing allows, for the names of colours need to agree within a clip only; and it keeps
    unit-norm keys and a temperature, as the rest of UMEC does. Every frame is encoded once, in grey; E's features
    of the clip are not used. Nothing teaches E what to make of colours, so give it none in inference either:
    Encoder(colour="grey").

    Args:
        colours: Clusters of (a, b).
        references: N at most, the frames before a query that it points into.
        samples: Query cells drawn from each frame; a quarter of them on a grid of 32 x 32.
        tau: Temperature.

    Raises:
        ConfigError: When a setting is out of range.

    Example:
        >>> from vos_umec.models.encoder import Encoder
        >>> E = Encoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> clip = EncodedClip(E, torch.rand(2, 3, 3, 32, 32), torch.arange(3).expand(2, 3))
        >>> sorted(ColorizationObjective()(clip))
        ['colorization', 'colorization_accuracy', 'colorization_alike', 'loss']
    """

    def __init__(self, colours: int = 16, references: int = 3, samples: int = 256, tau: float = 0.05) -> None:
        super().__init__()
        if colours < 2 or min(references, samples) < 1 or tau <= 0:
            raise ConfigError(
                f"colorization was given {colours} colours, {references} references, {samples} samples and tau "
                f"{tau}; expected at least 2 colours, at least 1 of the others, and tau above 0"
            )
        self.colours = colours
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
            cells whose likeliest colour is theirs. All but the loss are detached.

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
        colour = self._quantise(ab).unflatten(0, (B, T))  # (B, T, h, w)
        everywhere = torch.ones_like(colour[:, 0], dtype=torch.bool)
        pointed, alike, own = [], [], []
        for t in range(1, T):
            r = slice(max(0, t - self.references), t)
            cells, _ = random_cells(everywhere, self.samples)  # (B, S)
            A = affinity(keys[:, r], read_cells(keys[:, t], cells).transpose(1, 2), self.tau)  # (B, N*h*w, S)
            held = F.one_hot(colour[:, r], self.colours).movedim(-1, 2).to(A.dtype)  # (B, N, colours, h, w)
            pointed.append(read_out(A, held, (cells.shape[1], 1))[..., 0])  # (B, colours, S)
            alike.append(held.mean(dim=(1, 3, 4))[:, :, None].expand_as(pointed[-1]))
            own.append(colour[:, t].flatten(1).gather(1, cells))
        p, c = torch.stack(pointed), torch.stack(own)  # (T-1, B, colours, S), (T-1, B, S)
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
        """Number of the cluster of each cell (n, h, w), of colours (n, 2, h, w)."""
        points = ab.movedim(1, -1)  # (n, h, w, 2)
        return nearest_colour(points, colour_clusters(points.flatten(0, 2), self.colours))


def _surprise(p: Tensor, c: Tensor, known: Tensor) -> Tensor:
    """Mean of - log p[c] over known cells; p (T-1, B, colours, S), the rest (T-1, B, S)."""
    log_p = (p.float().gather(2, c[:, :, None])[:, :, 0] + 1e-20).log()  # the addend for cells that are not known
    return -torch.where(known, log_p, 0.0).sum() / known.sum().clamp(min=1)
