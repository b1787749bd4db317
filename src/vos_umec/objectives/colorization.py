"""Colorization: point from gray cells to earlier cells of the same color (after arXiv 1806.09594)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.distributed import count_per_process
from vos_umec.errors import ConfigError
from vos_umec.matching.dense import affinity, readout
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip
from vos_umec.objectives.cells import random_cells, read_cells
from vos_umec.transforms.color import from_lab, to_lab


class ColorizationObjective(CorrespondenceObjective):
    """Predict the quantized color of each cell of a gray frame by pointing into the frames before it.

    The colors are a and b of Lab, averaged over each cell and quantized to `colors` clusters of the batch. E sees
    the clip in gray. Random cells of every later frame point into the `references` frames before it, along the
    affinity A of the keys (UMEC eq. 4). With c one-hot colors, the predicted distribution and the loss are

        p_q = A^T [c_r1 ... c_rN],   L = - mean_q log p_q[c_q]

    over the cells q whose color occurs in some reference.

    Source: "Tracking Emerges by Colorizing Videos", Vondrick et al., ECCV 2018, arXiv 1806.09594. Unlike there,
    each batch has clusters of its own, on several processes the batch of each one, and keys have unit norm and a
    temperature, as elsewhere in UMEC. The features of `EncodedClip` are not used. E never learns to use colors, so
    give it `color="grey"`, also in inference.

    Args:
        colors: Number of color clusters.
        references: Largest number of earlier frames that a cell points into.
        samples: Cells drawn from each frame.
        tau: Temperature.

    Raises:
        ConfigError: If a setting is out of range.
    """

    def __init__(self, colors: int = 16, references: int = 3, samples: int = 256, tau: float = 0.05) -> None:
        super().__init__()
        if colors < 2 or min(references, samples) < 1 or tau <= 0:
            raise ConfigError(
                f"colorization with {colors=}, {references=}, {samples=}, {tau=}; expected at least 2 colors, "
                "at least 1 reference and sample, and tau above 0"
            )
        self.colors = colors
        self.references = references
        self.samples = samples
        self.tau = tau

    def forward(self, clip: EncodedClip) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            clip: Clips of at least two frames; shorter ones raise ConfigError.

        Returns:
            "loss"; the same as "colorization"; "colorization_alike", the loss if all keys were alike: below it, E
            has learned something; and "colorization_accuracy", the fraction of cells whose likeliest color is
            right. All but the loss are detached.
        """
        B, T = clip.require_frames(2, "colorization")
        lab = to_lab(clip.frames)
        gray = torch.cat((lab[:, :, :1], torch.zeros_like(lab[:, :, 1:])), dim=2)
        keys = clip.encode(from_lab(gray).flatten(0, 1)).key.unflatten(0, (B, T))  # (B, T, D, h, w)
        ab = F.adaptive_avg_pool2d(lab[:, :, 1:].flatten(0, 1), (keys.shape[-2], keys.shape[-1]))
        ab = ab.movedim(1, -1).unflatten(0, (B, T))  # (B, T, h, w, 2)
        color = nearest_color(ab, color_clusters(ab.flatten(0, 3), self.colors))  # (B, T, h, w)
        everywhere = torch.ones_like(color[:, 0], dtype=torch.bool)
        predictions, frequencies, own = [], [], []
        for t in range(1, T):
            r = slice(max(0, t - self.references), t)
            cells, _ = random_cells(everywhere, self.samples)  # (B, S)
            A = affinity(keys[:, r], read_cells(keys[:, t], cells).transpose(1, 2), self.tau)  # (B, N*h*w, S)
            one_hot = F.one_hot(color[:, r], self.colors).movedim(-1, 2).to(A.dtype)  # (B, N, colors, h, w)
            predictions.append(readout(A, one_hot, (cells.shape[1], 1))[..., 0])  # (B, colors, S)
            frequencies.append(one_hot.mean(dim=(1, 3, 4))[:, :, None].expand_as(predictions[-1]))
            own.append(color[:, t].flatten(1).gather(1, cells))
        p, frequency = torch.stack(predictions), torch.stack(frequencies)  # (T-1, B, colors, S)
        c = torch.stack(own)  # (T-1, B, S)
        known = frequency.gather(2, c[:, :, None])[:, :, 0] > 0  # (T-1, B, S)
        loss = _cross_entropy(p, c, known)
        right = (p.argmax(dim=2) == c) & known
        return {
            "loss": loss,
            "colorization": loss.detach(),
            "colorization_alike": _cross_entropy(frequency, c, known),
            "colorization_accuracy": right.sum() / count_per_process(known.sum()),
        }


def _cross_entropy(p: Tensor, c: Tensor, known: Tensor) -> Tensor:
    """Mean of - log p[c] over the known cells of all processes; p (T-1, B, colors, S), the rest (T-1, B, S)."""
    log_p = (p.float().gather(2, c[:, :, None])[:, :, 0] + 1e-20).log()  # finite for cells that are not known
    return -torch.where(known, log_p, 0.0).sum() / count_per_process(known.sum())


@torch.no_grad()
def color_clusters(colors: Tensor, count: int, iterations: int = 10) -> Tensor:
    """Cluster colors by k-means with k-means++ seeds, on their device; small enough to do in every step.

    Args:
        colors: Points (n, C), n at least 1.
        count: Number of clusters; where fewer colors differ, some centers are equal.
        iterations: Lloyd's iterations.

    Returns:
        Centers (count, C).
    """
    first = torch.randint(len(colors), (1,), device=colors.device)
    centers = colors[first]  # (1, C)
    apart = (colors - centers).square().sum(dim=1)  # (n,) to the nearest center
    for _ in range(1, count):
        # One point, with a probability in proportion to `apart`: the least of exponential draws of these rates.
        # For torch.multinomial the host waits for the device.
        drawn = (torch.empty_like(apart).exponential_() / (apart + 1e-12)).argmin()[None]
        centers = torch.cat((centers, colors[drawn]))
        apart = torch.minimum(apart, (colors - colors[drawn]).square().sum(dim=1))
    for _ in range(iterations):
        labels = nearest_color(colors, centers)
        sizes = torch.zeros(count, dtype=colors.dtype, device=colors.device)
        sizes.index_add_(0, labels, torch.ones_like(apart))
        sums = torch.zeros_like(centers).index_add_(0, labels, colors)
        centers = torch.where(sizes[:, None] > 0, sums / sizes[:, None].clamp(min=1), centers)
    return centers


def nearest_color(colors: Tensor, centers: Tensor) -> Tensor:
    """Index of the nearest center (count, C) of each color (..., C); gives (...) int64."""
    return torch.cdist(colors, centers).argmin(dim=-1)
