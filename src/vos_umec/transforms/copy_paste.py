"""Copy-paste: moving pieces of other clips, pasted onto a clip, become pseudo objects with exact masks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.errors import ConfigError

_VISIBLE = 0.4  # smallest mean difference, in normalised units, between a piece and the pixels it covers


class CopyPaste:
    """Turns some clips of a batch into composites, whose pasted pieces replace the clip's segments.

    A pseudo mask from clustering is easy to propagate with the features that were clustered, so a decoder learns
    little from it but to copy. The mask of a pasted piece is exact and independent of the features. Only unlabelled
    video is used.

    A piece is a blob of another clip of the batch or of the clip itself, or the part of a blob that one pseudo
    segment fills. It moves on top of the motion inside it; pieces may overlap. A piece that hardly differs from
    what it covers, such as sky on sky, is left out, because its mask cannot be seen. Clips without any known
    segment (before the first clustering) get pieces but no masks: they serve to learn correspondence.

    Args:
        p: Probability that a clip becomes a composite.
        pieces: Largest number of pieces in a composite, at least 1.
        segments: Probability that a piece follows a pseudo segment.
        distractors: Probability that the first piece is cut from the clip itself, next to pixels that look like it,
            so that only place and motion tell them apart.

    Raises:
        ConfigError: A setting is out of range.
    """

    def __init__(self, p: float = 0.7, pieces: int = 3, segments: float = 0.65, distractors: float = 0.35) -> None:
        if not (all(0 <= value <= 1 for value in (p, segments, distractors)) and pieces >= 1):
            raise ConfigError(
                f"CopyPaste has p {p}, pieces {pieces}, segments {segments} and distractors {distractors}; "
                "expected probabilities from 0 to 1 and at least one piece"
            )
        self.p = p
        self.pieces = pieces
        self.segments = segments
        self.distractors = distractors

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make composites of a batch.

        Args:
            batch: `frames` (B, T, 3, S, S) normalised; `segments` (B, T, S, S) uint8, 255 where nothing is known.
                Other entries are returned unchanged, and so is a batch without `segments`.

        Returns:
            A new dictionary with both replaced. In a composite, segment 0 is what is not pasted, 1 to `pieces` are
            the pieces; a clip without any known segment stays all 255.
        """
        if "segments" not in batch or not self.p:
            return batch
        frames, segments = batch["frames"], batch["segments"]
        B, T, S, device = frames.shape[0], frames.shape[1], frames.shape[-1], frames.device
        chosen = torch.rand(B, device=device) < self.p
        number = torch.randint(1, self.pieces + 1, (B,), device=device)
        out, ids = frames, torch.where(chosen[:, None, None, None], 0, segments)
        own = torch.arange(B, device=device)
        source = torch.where(torch.rand(B, device=device) < self.distractors, own, own.roll(1))
        for piece in range(1, self.pieces + 1):
            if piece > 1:  # half of the later pieces come from the same clip as the piece before
                other = torch.rand(B, device=device) < 0.5
                source = torch.where(other, own.roll(piece), source)
            blob, centre = _blobs(B, S, device)
            alpha = self._cut_out(blob, centre, segments[source])  # (B, T, S, S)
            contrast = 1 + 0.2 * _uniform(B, 1, 1, 1, 1, device=device)
            brightness = 0.2 * _uniform(B, 1, 1, 1, 1, device=device)
            pasted = frames[source] * contrast + brightness
            layer = torch.cat([pasted, alpha[:, :, None]], dim=2).flatten(0, 1)  # (B*T, 4, S, S)
            theta = _motion(B, T, centre)  # (B*T, 2, 3)
            grid = F.affine_grid(theta, [B * T, 4, S, S], align_corners=False)
            moved = F.grid_sample(layer, grid, padding_mode="zeros", align_corners=False).unflatten(0, (B, T))
            used = (chosen & (piece <= number))[:, None, None, None, None]
            alpha = moved[:, :, 3:] * used  # (B, T, 1, S, S)
            alpha = alpha * _visible(moved[:, :, :3], out, alpha)
            out = torch.lerp(out, moved[:, :, :3], alpha)
            ids = torch.where(alpha[:, :, 0] > 0.5, piece, ids)
        known = (segments != IGNORE).flatten(1).any(dim=1)[:, None, None, None]
        return {**batch, "frames": out, "segments": torch.where(known, ids, segments).to(torch.uint8)}

    def _cut_out(self, blob: Tensor, centre: Tensor, segments: Tensor) -> Tensor:
        """Part of the source clips to paste: the blob, or within it the segment at its centre (B, T, S, S)."""
        B, T, S = segments.shape[:3]
        x, y = ((centre + 1) * S / 2).long().clamp(0, S - 1).unbind(1)
        own = segments[torch.arange(B, device=blob.device), 0, y, x]  # (B,)
        part = blob[:, None] & (segments == own[:, None, None, None])
        enough = part.flatten(2).float().mean(2).amin(1) > 0.25 * blob.flatten(1).float().mean(1)
        follow = enough & (torch.rand(B, device=blob.device) < self.segments)
        return torch.where(follow[:, None, None, None], part, blob[:, None].expand(-1, T, -1, -1)).float()


def _visible(piece: Tensor, below: Tensor, alpha: Tensor) -> Tensor:
    """Whether each clip's piece (B, T, 3, S, S) differs from what it covers, weighted by alpha: (B, 1, 1, 1, 1)."""
    difference = (piece - below).abs().mean(dim=2, keepdim=True) * alpha
    visible = difference.flatten(1).sum(dim=1) > _VISIBLE * alpha.flatten(1).sum(dim=1)
    return visible[:, None, None, None, None]


def _uniform(*size: int, device: torch.device) -> Tensor:
    """Numbers from -1 to 1."""
    return torch.rand(*size, device=device) * 2 - 1


def _blobs(B: int, S: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ellipses with a ragged edge: masks (B, S, S) bool, and their centres (B, 2) as x, y in -1 to 1."""
    centre = 0.5 * _uniform(B, 2, device=device)
    radius = 0.25 + 0.35 * torch.rand(B, 1, 1, device=device)
    ragged = F.interpolate(
        torch.randn(B, 1, 7, 7, device=device), size=(S, S), mode="bicubic", align_corners=False
    )[:, 0]
    line = torch.linspace(-1, 1, S, device=device)
    x, y = line[None, None, :] - centre[:, 0, None, None], line[None, :, None] - centre[:, 1, None, None]
    stretch = torch.exp(0.5 * _uniform(B, 1, 1, device=device))
    distance = ((x * stretch) ** 2 + (y / stretch) ** 2) / radius**2  # (B, S, S), 1 on the ellipse
    return 1 - distance + 0.5 * ragged * (distance < 2.5) > 0, centre


def _motion(B: int, T: int, centre: Tensor) -> Tensor:
    """For every frame the affine map from composite to source coordinates, (B*T, 2, 3).

    A piece starts anywhere, at 0.7 to 1.4 of its size, turned and with probability 0.5 flipped. It shifts, turns
    and grows at constant speeds, with a little jitter.
    """
    device = centre.device
    t = torch.arange(T, device=device, dtype=torch.float32)[None]  # (1, T)

    def course(start: float, speed: float, jitter: float) -> Tensor:
        drift = speed * torch.randn(B, 1, device=device) * t
        return start * _uniform(B, 1, device=device) + drift + jitter * torch.randn(B, T, device=device)

    scale, turn = torch.exp(course(0.35, 0.04, 0.01)), course(0.3, 0.08, 0.02)
    place = torch.stack([course(0.6, 0.08, 0.02), course(0.6, 0.08, 0.02)], dim=-1)  # (B, T, 2)
    flip = torch.where(torch.rand(B, 1, device=device) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(turn) / scale, torch.sin(turn) / scale
    linear = torch.stack([flip * cos, -flip * sin, sin, cos], dim=-1).unflatten(-1, (2, 2))  # (B, T, 2, 2)
    offset = centre[:, None] - (linear @ place[..., None])[..., 0]
    return torch.cat([linear, offset[..., None]], dim=-1).flatten(0, 1)
