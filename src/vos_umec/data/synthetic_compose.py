"""Draws moving bodies over a picture, with exact masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.data.synthetic_motion import Motion
from vos_umec.data.synthetic_objects import Body, Part


@dataclass(frozen=True)
class Actor:
    """A body in motion.

    Args:
        body: What it looks like.
        motion: Where it is.
        label: Its id in the masks; 0 for what belongs to the background (occluders, distractors).
        shadow: Strength of the shadow it casts, 0 to 1.

    Example:
        >>> body = Body.sample(np.random.default_rng(0), 2, np.log([0.4, 0.4, 0.4]), 8.0)
        >>> Actor(body, Motion.still(2, (16.0, 12.0), 8.0), label=1).shadow
        0.0
    """

    body: Body
    motion: Motion
    label: int
    shadow: float = 0.0


def compose(picture: Tensor, actors: Sequence[Actor], t: int) -> tuple[Tensor, Tensor]:
    """Draw actors over a picture, back to front.

    Edges are blended by the share of the pixel that the object covers. A pixel of the mask belongs to the
    front-most actor that covers at least half of it.

    Args:
        picture: (3, H, W) float32 in [0, 1]; changed in place.
        actors: Back to front.
        t: Frame.

    Returns:
        The picture, and the ids (H, W) uint8.

    Example:
        >>> body = Body.sample(np.random.default_rng(0), 1, np.log([0.4, 0.4, 0.4]), 8.0)
        >>> actor = Actor(body, Motion.still(1, (16.0, 12.0), 8.0), label=3)
        >>> _, ids = compose(torch.zeros(3, 24, 32), [actor], 0)
        >>> ids.unique().tolist()
        [0, 3]
    """
    _, height, width = picture.shape
    ids = torch.zeros(height, width, dtype=torch.uint8)
    for actor in actors:
        centre = actor.motion.centre[t]
        radius = actor.motion.scale[t] * actor.motion.widened(t, actor.body.reach)
        x0, y0 = np.clip(centre - radius, 0, (width, height)).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(centre + radius), 0, (width, height)).astype(int).tolist()
        if x1 - x0 < 2 or y1 - y0 < 2:
            continue
        window = (slice(y0, y1), slice(x0, x1))
        color, coverage = _draw(actor, t, (y0, y1), (x0, x1))
        below = picture[:, *window]
        if actor.shadow > 0:
            below *= 1 - actor.shadow * _shadow(coverage, actor.motion.scale[t])
        picture[:, *window] = below * (1 - coverage) + color
        ids[window][coverage >= 0.5] = actor.label
    return picture, ids


def _draw(actor: Actor, t: int, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Color times coverage (3, h, w), and coverage (h, w), of an actor in a window of the frame."""
    x, y = _object_coordinates(actor.motion, t, rows, columns)
    color = torch.zeros(3, *x.shape)
    coverage = torch.zeros(x.shape)
    for part in actor.body.parts:
        drawn = _sample(part, t, x, y)  # (4, h, w)
        share = _coverage(drawn[3])
        color = color * (1 - share) + drawn[:3] * share
        coverage = coverage * (1 - share) + share
    return color, coverage


def _object_coordinates(
    motion: Motion, t: int, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Pixel centres in the object's own units, the deformation undone: x and y, (h, w) each."""
    cx, cy = motion.centre[t]
    # Pixel i covers [i, i + 1), so its centre is at i + 0.5.
    v, u = torch.meshgrid(
        torch.arange(*rows, dtype=torch.float32) + (0.5 - float(cy)),
        torch.arange(*columns, dtype=torch.float32) + (0.5 - float(cx)),
        indexing="ij",
    )
    scale, stretch = float(motion.scale[t]), float(motion.stretch[t])
    c, s = float(np.cos(motion.angle[t])), float(np.sin(motion.angle[t]))
    x = (u * c + v * s) / (scale * stretch)
    y = (v * c - u * s) * (stretch / scale)
    (a, b), (pa, pb), (fa, fb) = motion.ripple[t].tolist(), motion.phase[t].tolist(), motion.frequency.tolist()
    y = y + a * torch.sin(fa * x + pa) + float(motion.bend[t]) * torch.cos(1.2 * x)
    x = x + b * torch.sin(fb * y + pb)
    return x, y


def _sample(part: Part, t: int, x: Tensor, y: Tensor) -> Tensor:
    """Texture and level (4, h, w) of a part at object coordinates."""
    c, s = float(np.cos(part.swing[t])) / part.reach, float(np.sin(part.swing[t])) / part.reach
    x, y = x - part.joint[0], y - part.joint[1]
    grid = torch.stack([x * c + y * s, y * c - x * s], dim=-1)  # (h, w, 2) in [-1, 1] on the canvas
    return F.grid_sample(part.canvas[None], grid[None], padding_mode="border", align_corners=False)[0]


def _coverage(level: Tensor) -> Tensor:
    """Share of each pixel inside the outline, from its distance to it in pixels; (h, w)."""
    rise_y, rise_x = torch.gradient(level)
    return (0.5 + level / torch.hypot(rise_x, rise_y).clamp_min(1e-6)).clamp(0, 1)


def _shadow(coverage: Tensor, scale: float) -> Tensor:
    """Coverage shifted down and blurred; (h, w)."""
    shift = max(1, round(0.15 * scale))
    lower = F.pad(coverage, (0, 0, shift, 0))[: len(coverage)]
    small = F.interpolate(lower[None, None], size=[-(-n // shift) for n in lower.shape], mode="area")
    return F.interpolate(small, size=lower.shape, mode="bilinear", align_corners=False)[0, 0]
