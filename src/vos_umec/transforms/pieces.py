"""What a copy-paste composite is made of: outlines of pieces, their courses, and the course of the camera."""

from dataclasses import dataclass, fields
from math import log, pi

import torch
import torch.nn.functional as F
from torch import Tensor

BOX = 32
"""Points along a side of the box in which an outline is drawn."""
_LIMBS = 4
_WHOLE = 16  # frames in which a whole course is run
_NODES = 33  # along a side of the picture, where the coordinates of a warped box are computed; linear in between

# A path is place = home + direction * (start + move * pace + swing * sin(pi * pace)), with pace from 0 to 1.
_PATHS = (
    (1.0, 0.2, 0.0),  # stays beside home
    (0.1, 1.6, 0.0),  # parts from it
    (-1.0, 2.0, 0.0),  # crosses it
    (0.0, 0.0, 2.2),  # leaves, mostly the picture too, and returns
)
_LIKELY = (0.35, 0.25, 0.25, 0.15)
_STAYS, _CROSSES = 0, 2


@dataclass(frozen=True)
class Camera:
    """Course of the camera of each of B composites over T frames; it stays within the clip's own pixels.

    Attributes:
        zoom: (B, T), at least 1; the view spans 1 / zoom to either side of its centre.
        view: (B, T, 2), its centre as x, y in -1 to 1.
        shutter: (B,), part of the time from frame to frame in which light falls in, which is blurred motion.
    """

    zoom: Tensor
    view: Tensor
    shutter: Tensor

    @property
    def streak(self) -> Tensor:
        """Motion of the background while light falls in, (B, T, 2), in half sides of the picture."""
        return -_steps(self.view) * (self.zoom * self.shutter[:, None])[..., None]


@dataclass(frozen=True)
class Pieces:
    """Pieces of composites over T frames: what is cut out of which clip, and where it goes.

    A piece has a box with coordinates of its own, -1 to 1, which holds its outline. The box lies over a square of
    the source clip, within its picture, and moves through the composite. Coordinates of pictures are x, y, -1 to 1.
    The leading axes (...) are those of composites and pieces, (B, L).

    Attributes:
        used: (...) bool, which pieces there are.
        label: (...) uint8, the piece's segment; 0 is background.
        source: (...) int64, the clip of the batch that it is cut from.
        time: (..., T) int64, the frame of that clip in each frame.
        follow: (...) bool, whether it is cut along a pseudo segment.
        outline: (..., BOX, BOX), above 0 within the outline.
        centre: (..., 2), the box's centre in the source.
        radius: (...), half of its side there.
        linear: (..., T, 2, 2), maps a step in the composite to a step in the box: turn, size and flip.
        place: (..., T, 2), the box's centre in the composite.
        streak: (..., T, 2), its motion while light falls in.
        zoom: (..., T), how far the source's pixels are magnified.
        bend: (...), greatest warp, in coordinates of the box.
        waves: (..., 2, 2), the phase of the warp along x, y of the box.
        phase: (..., T, 2), the same at the box's centre, over time.
        contrast: (..., T), factor of the pixels.
        brightness: (..., T, 3), what is added to them.
        softness: (...), reach of the blur of its edge, in pixels; 1 is none.
    """

    used: Tensor
    label: Tensor
    source: Tensor
    time: Tensor
    follow: Tensor
    outline: Tensor
    centre: Tensor
    radius: Tensor
    linear: Tensor
    place: Tensor
    streak: Tensor
    zoom: Tensor
    bend: Tensor
    waves: Tensor
    phase: Tensor
    contrast: Tensor
    brightness: Tensor
    softness: Tensor

    def take(self, rows: Tensor, index: Tensor) -> "Pieces":
        """One piece each of some composites: of `rows` (n,) the pieces `index` (n,)."""
        return Pieces(*(getattr(self, field.name)[rows, index] for field in fields(self)))

    def to(self, device: torch.device) -> "Pieces":
        """Send all to a device, without waiting for it."""
        return Pieces(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def coordinates(self, S: int) -> Tensor:
        """For one piece each of n composites, the box's coordinates at each pixel: (n*T, S, S, 2)."""
        line = torch.linspace(1 / S - 1, 1 - 1 / S, _NODES, device=self.place.device)
        nodes = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).flatten(0, 1)  # (nodes, 2)
        local = (nodes - self.place[:, :, None]) @ self.linear.mT  # (n, T, nodes, 2)
        warp = torch.sin(local @ self.waves[:, None].mT + self.phase[:, :, None])
        local = local + self.bend[:, None, None, None] * warp
        at_nodes = local.flatten(0, 1).mT.contiguous().unflatten(-1, (_NODES, _NODES))  # (n*T, 2, nodes, nodes)
        return F.interpolate(at_nodes, size=(S, S), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)


def uniform(low: float, high: float, *size: int) -> Tensor:
    """Uniform numbers from `low` to `high`."""
    return low + (high - low) * torch.rand(*size)


def draw_camera(B: int, T: int, moves: float) -> Camera:
    """Draw how the camera pans and zooms; with probability 1 - `moves` it stands still and shows the whole clip."""
    pace = _pace(B, T)
    change = uniform(-0.3, 0.3, B, 1)  # of the zoom's logarithm
    zoom = torch.exp(uniform(log(1.4), log(1.7), B, 1) + change * (pace - 0.5))
    zoom = torch.where(torch.rand(B, 1) < moves, zoom, 1.0)
    angle, speed = uniform(-pi, pi, B, 1, 1), 0.2 + 0.8 * torch.rand(B, 1, 1).sqrt()
    heading = torch.cat([angle.cos(), angle.sin()], dim=-1)  # (B, 1, 2)
    heading = heading / heading.abs().amax(dim=-1, keepdim=True)
    course = speed * heading * (2 * pace[..., None] - 1) + (1 - speed) * uniform(-1, 1, B, 1, 2)  # (B, T, 2)
    course = (course + 0.02 * torch.randn(B, T, 2)).clamp(-1, 1)  # in the room that the zoom makes
    return Camera(zoom, course * (1 - 1 / zoom)[..., None], uniform(-0.15, 0.2, B).clamp(min=0))


def draw_pieces(
    clips: Tensor, B: int, camera: Camera, objects: int, segments: float, distractors: float, occluders: float
) -> Pieces:
    """Draw L = objects + 2 pieces for each composite: objects, a distractor and an occluder.

    The distractor is a copy of the first object. Later objects are background with probability 0.2, the distractor
    with 0.5 and the occluder always.

    Args:
        clips: (b,) int64, the clips of the batch that become composites.
        B: Clips of the batch.
        camera: Their camera.
        objects: Largest number of objects.
        segments: Probability that a piece follows a pseudo segment.
        distractors: Probability of a distractor.
        occluders: Probability of an occluder.
    """
    b, T = camera.zoom.shape
    L, distractor, occluder = objects + 2, objects, objects + 1

    def alike(x: Tensor) -> Tensor:
        """Give the distractor what the first piece has."""
        x[:, distractor] = x[:, 0]
        return x

    there = torch.rand(b, 2) < torch.tensor([distractors, occluders])
    used = torch.cat([torch.arange(objects) < torch.randint(1, objects + 1, (b, 1)), there], dim=1)  # (b, L)
    hidden = torch.rand(b, L) < torch.tensor([0.0] + [0.2] * (objects - 1) + [0.5, 1.0])
    source = (clips[:, None] + torch.randint(1, max(B, 2), (b, L))) % B
    source[:, 0] = torch.where(torch.rand(b) < 0.35, clips, source[:, 0])  # of the clip itself: all looks like it
    span = torch.randint(0, min(T, 4), (b, L, 1))  # steps; more, and background streams past inside
    time = (torch.rand(b, L, 1) * (T - span)).long() + (_time(T) * span).round().long()  # (b, L, T)
    backwards = torch.rand(b, L, 1) < 0.5
    backwards[:, distractor] = ~backwards[:, 0]  # mostly other frames of the same piece
    time = torch.where(backwards, T - 1 - time, time)

    bar = torch.zeros(b, L, dtype=torch.bool)
    bar[:, occluder] = torch.rand(b) < 0.5
    follow = alike((torch.rand(b, L) < segments) & ~bar)
    share = torch.where(follow, uniform(0.4, 0.6, b, L), uniform(0.22, 0.5, b, L))  # of the box, within the outline
    share = alike(torch.where(bar, uniform(0.06, 0.2, b, L), share))

    pace = _pace(b * L, T).view(b, L, T)
    place, heading = _paths(pace)
    size, radius = _sizes(share, pace, bar)
    radius = alike(radius)
    size[:, distractor] = size[:, 0] * torch.exp(0.15 * torch.randn(b, 1))
    # Some move on the background, so with it. There, this is where they are, in the coordinates of their clip.
    zoom, view = camera.zoom[:, None], camera.view[:, None]  # (b, 1, T), (b, 1, T, 2)
    ground = place / zoom[..., :1, None] + view[:, :, :1]
    grounded = torch.rand(b, L, 1) < torch.tensor([0.1] + [0.3] * objects + [0.0])[:, None]
    place = torch.where(grounded[..., None], (ground - view) * zoom[..., None], place)
    size = torch.where(grounded, size * zoom / zoom[..., :1], size)

    turn = uniform(-0.4, 0.4, b, L, 1) + uniform(-0.8, 0.8, b, L, 1) * pace
    turn = torch.where(bar[..., None], heading[..., None] + 0.1 * turn, turn)  # a bar moves sideways
    flip = torch.where(torch.rand(b, L, 1) < 0.5, -1.0, 1.0)
    cos, sin = turn.cos() / size, turn.sin() / size  # (b, L, T)
    u = _time(T)  # (T,)
    shade = uniform(-0.15, 0.15, b, L, 2, 1) * u  # (b, L, 2, T)
    color = alike(uniform(-0.2, 0.2, b, L, 5)) + 0.04 * torch.randn(b, L, 5)  # contrast, brightness, R, G, B
    return Pieces(
        used=used,
        label=torch.where(hidden, 0, torch.arange(1, L + 1)).to(torch.uint8),
        source=alike(source),
        time=time,
        follow=follow,
        outline=alike(_outlines(share.flatten(), bar.flatten()).unflatten(0, (b, L))),
        centre=alike((1 - radius)[..., None] * uniform(-1, 1, b, L, 2)),
        radius=radius,
        linear=torch.stack([flip * cos, flip * sin, -sin, cos], dim=-1).unflatten(-1, (2, 2)),
        place=place + 0.006 * torch.randn(b, L, T, 2),
        streak=_steps(place) * camera.shutter[:, None, None, None],
        zoom=size / radius[..., None],
        bend=uniform(0, 0.14, b, L) * (torch.rand(b, L) < 0.7) * ~bar,
        waves=uniform(-pi, pi, b, L, 2, 2),
        phase=uniform(-pi, pi, b, L, 1, 2) + uniform(-4, 4, b, L, 1, 1) * u[:, None],
        contrast=1 + color[..., :1] + shade[..., 0, :],
        brightness=color[..., None, 1:2] + 0.5 * color[..., None, 2:] + shade[..., 1, :, None],
        softness=uniform(1.2, 2.2, b, L),
    )


def _time(T: int) -> Tensor:
    """Time of each frame, (T,): 0 for the first to 1 for the last."""
    return torch.arange(T) / max(T - 1, 1)


def _pace(n: int, T: int) -> Tensor:
    """Courses (n, T) from 0 on, each slowing down, steady or accelerating; to 1 in clips of `_WHOLE` frames.

    Shorter clips show a part of a course, so that things move as far from frame to frame as in longer ones.
    """
    return min(1.0, (T - 1) / (_WHOLE - 1)) * _time(T) ** torch.exp(uniform(-0.7, 0.7, n, 1))


def _steps(place: Tensor) -> Tensor:
    """Step from each frame's place (..., T, 2) to the next; the last frame has that of the frame before."""
    steps = place.diff(dim=-2)
    return torch.cat([steps, steps[..., -1:, :]], dim=-2) if steps.shape[-2] else torch.zeros_like(place)


def _paths(pace: Tensor) -> tuple[Tensor, Tensor]:
    """Places of pieces (b, L, T, 2) and headings (b, L) in radians; home is where the first piece starts."""
    b, L, _ = pace.shape
    kind = torch.multinomial(torch.tensor(_LIKELY), b * L, replacement=True).view(b, L)
    kind[:, -2], kind[:, -1] = _STAYS, _CROSSES  # distractor and occluder
    heading = uniform(-pi, pi, b, L)
    reach = uniform(0.3, 0.9, b, L)
    reach[:, -1] = 1.3
    direction = reach[..., None] * torch.stack([heading.cos(), heading.sin()], dim=-1)  # (b, L, 2)
    start, move, swing = torch.tensor(_PATHS)[kind][:, :, None].unbind(-1)  # (b, L, 1) each
    way = start + move * pace + swing * torch.sin(pi * pace)  # (b, L, T)
    path = direction[:, :, None] * way[..., None]  # (b, L, T, 2)
    home = (uniform(-0.35, 0.35, b, 1, 1, 2) + path[:, :1, :1]).clamp(-0.65, 0.65)
    path[:, :1] -= path[:, :1, :1].clone()
    place = home + path
    start = place[:, :-1, :1].clone()
    place[:, :-1] += start.clamp(-0.8, 0.8) - start  # all but the occluder start in the picture
    return place, heading


def _sizes(share: Tensor, pace: Tensor, bar: Tensor) -> tuple[Tensor, Tensor]:
    """Half sides of boxes, in composites (b, L, T) and in sources (b, L); a third of them grow or shrink fast."""
    b, L = share.shape
    side = uniform(0.02**0.5, 0.35**0.5, b, L)  # square root of the part of the picture within the outline
    half = torch.where(bar, 1.4, side / share.sqrt())
    fast = uniform(0.4, log(2.5), b, L) * torch.where(torch.rand(b, L) < 0.5, -1.0, 1.0)
    growth = torch.where(torch.rand(b, L) < 0.33, fast, 0.2 * torch.randn(b, L)) * ~bar
    size = half[..., None] * torch.exp(growth[..., None] * (pace - 0.5))
    largest = torch.where(bar, 1.4, 1.0)[..., None]
    size = size * (largest / size.amax(dim=-1, keepdim=True)).clamp(max=1)
    magnified = torch.exp(uniform(-0.1, 0.5, b, L))
    return size, (size.mean(dim=-1) / magnified).clamp(max=0.9)


def _outlines(share: Tensor, bar: Tensor) -> Tensor:
    """Outlines (n, BOX, BOX), above 0 within: a body with up to 3 limbs, its edge ragged; or a bar.

    `share` (n,) is the part of the box within the outline, `bar` (n,) bool tells the bars.
    """
    n = share.shape[0]
    line = (torch.arange(BOX) + 0.5) * (2 / BOX) - 1
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)  # (BOX, BOX, 2)
    body = torch.arange(_LIMBS) == 0
    angle = uniform(-pi, pi, n, _LIMBS)
    axis = torch.stack([angle.cos(), angle.sin()], dim=-1)  # (n, limbs, 2)
    across = torch.stack([-angle.sin(), angle.cos()], dim=-1)
    length = uniform(0.25, 0.45, n, _LIMBS)
    width = length * torch.where(body, uniform(0.4, 1.0, n, _LIMBS), uniform(0.2, 0.5, n, _LIMBS))
    middle = torch.where(body, 0.0, uniform(0.35, 0.65, n, _LIMBS))[..., None] * axis  # limbs point outwards
    steps = points.flatten(0, 1) - middle[:, :, None]  # (n, limbs, points, 2)
    ellipse = torch.stack([axis / length[..., None], across / width[..., None]], dim=-1)  # (n, limbs, 2, 2)
    distance = (steps @ ellipse).norm(dim=-1)  # (n, limbs, points), 1 on an ellipse
    absent = torch.arange(_LIMBS) >= torch.randint(1, _LIMBS + 1, (n, 1))
    distance = (distance + 100.0 * absent[..., None]).amin(dim=1).view(n, BOX, BOX)
    ragged = F.interpolate(torch.randn(n, 1, 7, 7), size=(BOX, BOX), mode="bicubic", align_corners=False)[:, 0]
    rim = 100 * (points.norm(dim=-1) - 0.9).clamp(min=0)  # keeps the outline within the box
    shape = torch.where(bar[:, None, None], 8 * points[..., 0].abs() - 0.1 * ragged, distance + rim - 0.4 * ragged)
    ordered = shape.flatten(1).sort(dim=1).values
    level = ordered.gather(1, (share * BOX**2).long()[:, None])  # so that `share` lies within
    return level[..., None] - shape
