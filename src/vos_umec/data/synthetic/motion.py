"""Smooth random motion of synthetic objects: paths, poses and deformations."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def smooth_curve(knots: np.ndarray, frames: int) -> np.ndarray:
    """Curve (T, C) with a continuous velocity, through knots (n, C) spread evenly over it, n >= 2."""
    row = torch.from_numpy(knots.T)[None, :, None]  # (1, C, 1, n): an image of one row
    curve = torch.nn.functional.interpolate(row, size=(1, frames), mode="bicubic", align_corners=True)
    return curve[0, :, 0].T.numpy()


def drift(
    rng: np.random.Generator, frames: int, low: float, high: float, every: int = 12, channels: int = 1
) -> np.ndarray:
    """Values (T, C) that wander smoothly from one random knot, in [low, high), to the next, `every` frames."""
    return smooth_curve(rng.uniform(low, high, (2 + frames // every, channels)), frames)


def walk(
    rng: np.random.Generator, frames: int, start: np.ndarray, size: tuple[int, int], pace: float
) -> np.ndarray:
    """Path (T, 2), x and y in pixels, about a frame (H, W), from a start (2,), by `pace` pixels in ten frames.

    It keeps its heading, turns a little, and at times turns back. The border reflects it, so that an object whose
    center walks leaves only in part.
    """
    n = 1 + frames // 10
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.5, n) + np.pi * (rng.random(n) < 0.2))
    steps = (pace * rng.uniform(0.5, 1.5, n) * np.stack([np.cos(heading), np.sin(heading)])).T  # (n, 2)
    straight = np.concatenate([start[None], start + np.cumsum(steps, axis=0)])
    extent = np.array([size[1], size[0]])
    folded = 1 - np.abs(1 - straight / extent % 2)
    return smooth_curve(folded * extent, frames)


@dataclass(frozen=True)
class Pose:
    """Where an object is in one frame, and how it is deformed.

    The deformation is a chain of shears, so it is a bijection of the plane whatever its strength: every pixel of
    the object comes from one place of its texture, and keeps to it.

    Args:
        center: x and y of the object's origin, pixels.
        scale: Pixels per object unit.
        angle: Rotation, radians; y points down, so a positive angle turns clockwise.
        stretch: The object's x axis is longer by this factor, the y axis shorter by it.
        waves: Amplitudes of a wave along y that runs in x, and of one along x that runs in y, object units.
        phases: Of the two waves, radians.
        frequencies: Of the two waves, radians per object unit.
    """

    center: tuple[float, float]
    scale: float
    angle: float = 0.0
    stretch: float = 1.0
    waves: tuple[float, float] = (0.0, 0.0)
    phases: tuple[float, float] = (0.0, 0.0)
    frequencies: tuple[float, float] = (1.0, 1.0)

    def radius(self, reach: float) -> float:
        """Radius in pixels that holds the deformed object, from its radius at rest in object units."""
        return self.scale * (reach + sum(map(abs, self.waves))) * max(self.stretch, 1 / self.stretch)

    def to_object(self, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Object coordinates of the pixels of a window, the deformation undone: x and y, (h, w) each."""
        v = torch.arange(*rows)[:, None] + (0.5 - self.center[1])  # pixel i covers [i, i + 1)
        u = torch.arange(*columns)[None] + (0.5 - self.center[0])
        c, s = float(np.cos(self.angle)), float(np.sin(self.angle))
        x = (u * c + v * s) / (self.scale * self.stretch)
        y = (v * c - u * s) * (self.stretch / self.scale)
        y = y + self.waves[0] * torch.sin(self.frequencies[0] * x + self.phases[0])
        x = x + self.waves[1] * torch.sin(self.frequencies[1] * y + self.phases[1])
        return x, y


def live(rng: np.random.Generator, path: np.ndarray, scale: float, strength: float = 1.0) -> list[Pose]:
    """Poses of an object that follows a path (T, 2) while it turns, changes its size by a quarter, and deforms.

    A `strength` below 1 is for plants, which also start upright. The scale is in pixels per object unit.
    """
    frames = len(path)
    turn = rng.uniform(0.15, 0.9)
    angle = strength * drift(rng, frames, -turn, turn)[:, 0] + (rng.uniform(0, 2 * np.pi) if strength == 1 else 0)
    size = scale * np.exp(strength * drift(rng, frames, -0.25, 0.25)[:, 0])
    stretch = np.exp(strength * drift(rng, frames, -0.15, 0.15)[:, 0])
    waves = strength * drift(rng, frames, -0.2, 0.2, channels=2)
    speed = rng.uniform(0.08, 0.3, 2) * rng.choice([-1, 1], 2)  # radians per frame
    phases = rng.uniform(0, 2 * np.pi, 2) + speed * np.arange(frames)[:, None]
    frequencies = np.broadcast_to(rng.uniform(1.0, 4.0, 2), (frames, 2))
    columns = (path, size, angle, stretch, waves, phases, frequencies)
    return [Pose(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
