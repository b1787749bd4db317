"""Copy-paste: moving pieces of other clips, pasted onto a clip, become pseudo objects with exact masks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.errors import ConfigError
from vos_umec.transforms.pieces import BOX, Camera, Pieces, draw_camera, draw_pieces

_VISIBLE = 0.4  # smallest mean difference, in normalised units, between a piece and the pixels it covers
_FOLLOWED = 0.25  # smallest part of an outline that a pseudo segment fills in every frame, to be followed
_REACH = 2  # pixels to either side, of motion blur, soft edges and sharpening
_SHARPENED = 1.5  # by how much, at twice the size; a magnified frame is then about as sharp as others


class CopyPaste:
    """Turns some clips of a batch into composites, whose pasted pieces replace the clip's segments.

    A pseudo mask from clustering is easy to propagate with the features that were clustered, so a decoder learns
    little from it but to copy. The mask of a pasted piece is exact and independent of the features. Only unlabelled
    video is used.

    Composites uncover. A camera pans and zooms over the clip, so that new background enters at the border and
    appears behind pieces that stay in view. Pieces part, cross each other, leave and return, grow, turn and bend. A
    distractor, which is a copy of the first piece, moves beside it, as an object or as background. An occluder,
    which is background, passes before everything. So an edge or a motion of its own does not tell an object.

    A piece is a shape with limbs out of another clip of the batch or, for a third of the first pieces, of the clip
    itself; or the part of the shape that one pseudo segment fills. It moves on top of the motion inside it, and
    shows three frames' steps at most: background that streams past inside a piece would be part of an object. A
    piece that hardly differs from what it covers, such as sky on sky, is left out, because its mask cannot be seen.
    Clips without any known segment (before the first clustering) get pieces but no masks: they serve to learn
    correspondence.

    What is drawn comes from torch's global CPU generator, so it does not depend on the device.

    Args:
        p: Probability that a clip becomes a composite.
        pieces: Largest number of pieces in a composite, at least 1, beside distractor and occluder.
        segments: Probability that a piece follows a pseudo segment.
        distractors: Probability of a distractor.
        occluders: Probability of an occluder.
        camera: Probability that the camera moves.

    Raises:
        ConfigError: A setting is out of range.
    """

    def __init__(
        self,
        p: float = 0.7,
        pieces: int = 3,
        segments: float = 0.4,
        distractors: float = 0.35,
        occluders: float = 0.2,
        camera: float = 0.85,
    ) -> None:
        probabilities = {"p": p, "segments": segments, "distractors": distractors}
        probabilities |= {"occluders": occluders, "camera": camera}
        if not (all(0 <= value <= 1 for value in probabilities.values()) and pieces >= 1):
            raise ConfigError(
                f"CopyPaste has pieces {pieces} and {probabilities}; expected at least one piece and probabilities "
                "from 0 to 1"
            )
        self.p = p
        self.pieces = pieces
        self.segments = segments
        self.distractors = distractors
        self.occluders = occluders
        self.camera = camera

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make composites of a batch.

        Args:
            batch: `frames` (B, T, 3, S, S) normalised; `segments` (B, T, S, S) uint8, 255 where nothing is known.
                Other entries are returned unchanged, and so is a batch without `segments` or without a chosen clip.

        Returns:
            A new dictionary with both replaced. In a composite, segment 0 is the clip and pieces that are
            background; 1 to `pieces` are pieces, `pieces` + 1 is a distractor that is an object. A clip without any
            known segment stays all 255.
        """
        if "segments" not in batch or not self.p:
            return batch
        frames, segments = batch["frames"], batch["segments"]
        B, T, device = frames.shape[0], frames.shape[1], frames.device
        clips = (torch.rand(B) < self.p).nonzero()[:, 0]  # (b,); drawn on the CPU, so nothing waits for the device
        if not len(clips):
            return batch
        camera = draw_camera(len(clips), T, self.camera)
        drawn = draw_pieces(clips, B, camera, self.pieces, self.segments, self.distractors, self.occluders)
        height = torch.rand(drawn.used.shape)
        height[:, -1] = 1  # the occluder passes before everything
        order = torch.where(drawn.used, height, 2).argsort(dim=1)  # (b, L) from the bottom up, then those not used
        count = drawn.used.sum(dim=1)  # (b,), at least 1
        pieces, clips = drawn.to(device), clips.to(device, non_blocking=True)
        kernels = _kernels_of(pieces, frames.shape[-1])  # (b, L, T, 4, 5, 5)

        out = _filmed(frames[clips], camera)
        ids = torch.zeros_like(segments[clips])
        for layer in range(self.pieces + 2):
            rows = (count > layer).nonzero()[:, 0]
            if not len(rows):
                break
            index, rows = (x.to(device, non_blocking=True) for x in (order[rows, layer], rows))
            piece, below = pieces.take(rows, index), out[rows]  # of n composites, (n, T, 3, S, S)
            pixels, alpha = _cut_out(frames, segments, piece, kernels[rows, index])
            alpha = alpha * _visible(pixels, below, alpha)
            covered = torch.where(alpha[:, :, 0] > 0.5, piece.label[:, None, None, None], ids[rows])
            out = out.index_copy(0, rows, torch.lerp(below, pixels, alpha))
            ids = ids.index_copy(0, rows, covered)
        known = (segments[clips] != IGNORE).flatten(1).any(dim=1)[:, None, None, None]
        out = out.clamp(frames.amin(), frames.amax())  # light and sharpening stay in range
        frames = frames.index_copy(0, clips, out)
        segments = segments.index_copy(0, clips, torch.where(known, ids, IGNORE))
        return {**batch, "frames": frames, "segments": segments}


def _filmed(frames: Tensor, camera: Camera) -> Tensor:
    """Clips (b, T, 3, S, S) as the camera shows them."""
    b, T, _, S, _ = frames.shape
    linear = torch.eye(2) / camera.zoom[..., None, None]
    theta = torch.cat([linear, camera.view[..., None]], dim=-1).flatten(0, 1)  # (b*T, 2, 3)
    grid = F.affine_grid(theta.to(frames.device, non_blocking=True), [b * T, 3, S, S], align_corners=False)
    seen = F.grid_sample(frames.flatten(0, 1), grid, padding_mode="border", align_corners=False)
    kernels = _kernels(camera.streak * (S / 2), torch.ones(b), camera.zoom).to(frames.device, non_blocking=True)
    return _convolved(seen.unflatten(0, (b, T)), kernels[:, :, None].expand(-1, -1, 3, -1, -1))


def _cut_out(frames: Tensor, segments: Tensor, piece: Pieces, kernels: Tensor) -> tuple[Tensor, Tensor]:
    """One piece each of n composites: pixels (n, T, 3, S, S), and alpha (n, T, 1, S, S) with a soft edge."""
    n, T, S = *piece.time.shape, frames.shape[-1]
    clip = piece.source[:, None]  # (n, 1)
    part = _part(segments[clip, piece.time], piece)[:, :, None].to(frames.dtype)
    source = torch.cat([frames[clip, piece.time], part], dim=2)  # (n, T, 4, S, S)
    local = piece.coordinates(S)  # (n*T, S, S, 2)
    outline, centre, radius = (
        x.repeat_interleave(T, dim=0) for x in (piece.outline[:, None], piece.centre, piece.radius)
    )
    inside = F.grid_sample(outline, local, align_corners=False) > 0  # (n*T, 1, S, S); 0 outside the box
    at = centre[:, None, None] + radius[:, None, None, None] * local
    cut = F.grid_sample(source.flatten(0, 1), at, padding_mode="border", align_corners=False)
    mask = (inside & (cut[:, 3:] > 0.5)).to(frames.dtype)
    layer = torch.cat([cut[:, :3], mask], dim=1).unflatten(0, (n, T))  # (n, T, 4, S, S)
    pixels, alpha = _convolved(layer, kernels).split((3, 1), dim=2)
    return pixels * piece.contrast[..., None, None, None] + piece.brightness[..., None, None], alpha


def _part(segments: Tensor, piece: Pieces) -> Tensor:
    """Where a piece's clip may be cut (n, T, S, S) bool: the segment at the box's centre, or everywhere."""
    n, _, S = segments.shape[:3]
    x, y = ((piece.centre + 1) * S / 2).long().clamp(0, S - 1).unbind(dim=1)
    own = segments[torch.arange(n, device=segments.device), 0, y, x]  # (n,)
    part = segments == own[:, None, None, None]
    line = (torch.arange(BOX, device=segments.device) + 0.5) * (2 / BOX) - 1
    box = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)  # (BOX, BOX, 2)
    at = piece.centre[:, None, None] + piece.radius[:, None, None, None] * box
    filled = F.grid_sample(part.float(), at, align_corners=False) * (piece.outline > 0)[:, None]  # (n, T, BOX, BOX)
    share = filled.flatten(2).sum(dim=2).amin(dim=1) / (piece.outline > 0).flatten(1).sum(dim=1)
    follow = piece.follow & (share > _FOLLOWED) & (own != IGNORE)
    return part | ~follow[:, None, None, None]


def _visible(piece: Tensor, below: Tensor, alpha: Tensor) -> Tensor:
    """Whether each clip's piece (n, T, 3, S, S) differs from what it covers, weighted by alpha: (n, 1, 1, 1, 1)."""
    difference = (piece - below).abs().mean(dim=2, keepdim=True) * alpha
    visible = difference.flatten(1).sum(dim=1) > _VISIBLE * alpha.flatten(1).sum(dim=1)
    return visible[:, None, None, None, None]


def _kernels_of(pieces: Pieces, S: int) -> Tensor:
    """Kernels of all pieces, for R, G, B and alpha, (b, L, T, 4, 5, 5)."""
    streak, ones = pieces.streak * (S / 2), torch.ones_like(pieces.zoom)
    color, edge = _kernels(streak, ones[..., 0], pieces.zoom), _kernels(streak, pieces.softness, ones)
    return torch.stack([color, color, color, edge], dim=-3)


def _kernels(streak: Tensor, width: Tensor, zoom: Tensor) -> Tensor:
    """Kernels (..., T, 5, 5) for motion blur, soft edges, and against the blur of magnified frames.

    Args:
        streak: (..., T, 2), motion to blur along, in pixels; what goes beyond 3 pixels is left off.
        width: (...), reach in pixels of a tent to blur with in all directions; with 1 it does not.
        zoom: (..., T), how far the frames were magnified; above 1 they are sharpened.
    """
    longest = 2 * _REACH - 1
    streak = streak * longest / streak.norm(dim=-1, keepdim=True).clamp(min=longest)
    along = streak[..., None, None] * torch.linspace(-0.5, 0.5, 5, device=streak.device)[:, None]
    distance = (torch.arange(-_REACH, _REACH + 1, device=streak.device) - along).abs()  # (..., T, 2, 5 steps, 5)

    def tents(width: Tensor) -> Tensor:
        x, y = (
            (1 - distance / width[..., None, None, None, None]).clamp(min=0).unbind(dim=-3)
        )  # (..., T, 5 steps, 5)
        kernels = y.mT @ x  # (..., T, 5, 5), the sum over the steps
        return kernels / kernels.sum(dim=(-2, -1), keepdim=True)

    amount = (zoom - 1).clamp(min=0)[..., None, None] * _SHARPENED
    return (1 + amount) * tents(width) - amount * tents(width + 1)


def _convolved(frames: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each channel of frames (n, T, C, S, S) with a kernel of its own, (n, T, C, 5, 5)."""
    S = frames.shape[-1]
    padded = F.pad(frames.reshape(1, -1, S, S), [_REACH] * 4, mode="replicate")
    weight = kernels.flatten(0, 2)[:, None].to(frames.dtype)  # (n*T*C, 1, 5, 5)
    return F.conv2d(padded, weight, groups=weight.shape[0]).view(frames.shape)
