"""Painted bodies of synthetic objects: a trunk with limbs, or a plant; each part is a texture with an outline.

An outline is a level over a square canvas: positive inside, zero on the line, negative outside.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.data.synthetic.motion import drift
from vos_umec.data.synthetic.textures import Palette, power_law_noise, texture


@dataclass(frozen=True)
class Part:
    """One rigid part of an object, jointed to the rest.

    Args:
        canvas: (4, n, n) float32: RGB in [0, 1], then the outline's level.
        reach: Half the canvas' side, object units.
        joint: x and y of the canvas' origin in the object, object units.
        swing: (T,) angle about the joint, radians.
    """

    canvas: Tensor
    reach: float
    joint: tuple[float, float]
    swing: np.ndarray

    def sample(self, t: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Color (3, h, w) in frame t at object coordinates (h, w), and the share of each pixel inside (h, w)."""
        c, s = float(np.cos(self.swing[t])) / self.reach, float(np.sin(self.swing[t])) / self.reach
        x, y = x - self.joint[0], y - self.joint[1]
        grid = torch.stack([x * c + y * s, y * c - x * s], dim=-1)  # (h, w, 2) in [-1, 1] on the canvas
        drawn = F.grid_sample(self.canvas[None], grid[None], padding_mode="border", align_corners=False)[0]
        rise_y, rise_x = torch.gradient(drawn[3])
        distance = drawn[3] / torch.hypot(rise_x, rise_y).clamp_min(1e-6)  # to the outline, pixels
        return drawn[:3], (0.5 + distance).clamp(0, 1)


@dataclass(frozen=True)
class Body:
    """The parts of an object, back to front, and the radius about its origin that holds them, object units."""

    parts: tuple[Part, ...]
    reach: float

    @classmethod
    def sample(
        cls, rng: np.random.Generator, frames: int, scene: np.ndarray, resolution: float, most_limbs: int = 3
    ) -> "Body":
        """An articulated object: a trunk with a radius of about 1, and up to `most_limbs` swinging limbs.

        `scene` (3,) is the logarithm of the scene's mean color, `resolution` the number of canvas cells per object
        unit.
        """
        palettes = [Palette(rng, scene) for _ in range(int(rng.integers(1, 4)))]
        trunk = _paint(rng, _blob(rng, *canvas_grid(1.6, resolution)), 1.6, palettes)
        parts = [Part(trunk, 1.6, (0.0, 0.0), np.zeros(frames))]
        for _ in range(int(rng.integers(0, most_limbs + 1))):
            length, root, tip = rng.uniform((0.7, 0.14, 0.1), (1.3, 0.3, 0.4)).tolist()
            reach = length + max(root, tip) + 0.15
            level = _limb(*canvas_grid(reach, resolution), length, root, tip, rng.normal(0, 0.2))
            where, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.5)
            beat = np.sin(rng.uniform(0.1, 0.45) * np.arange(frames) + rng.uniform(0, 2 * np.pi))
            swing = where + rng.uniform(0.15, 0.6) * beat + drift(rng, frames, -0.3, 0.3)[:, 0]
            joint = (distance * np.cos(where), distance * np.sin(where))
            limb = Part(_paint(rng, level, reach, palettes), reach, joint, swing)
            parts.insert(int(rng.choice([0, len(parts)])), limb)  # behind all others or in front of them
        return cls(tuple(parts), max(float(np.hypot(*part.joint)) + part.reach for part in parts))

    @classmethod
    def plant(cls, rng: np.random.Generator, frames: int, scene: np.ndarray, resolution: float) -> "Body":
        """Bent blades, or one thick stem, that grow upwards from the origin to a height of 1.5 at most."""
        x, y = canvas_grid(1.7, resolution)
        n = int(rng.choice([1, 1, 3, 4, 5, 6, 7]))
        level = np.full_like(x, -np.inf)
        for angle in rng.normal(-np.pi / 2, 0.1 if n == 1 else 0.3, n):  # y points down
            c, s = np.cos(angle), np.sin(angle)
            root = rng.uniform(0.06, 0.14) if n == 1 else rng.uniform(0.03, 0.08)
            shape = (rng.uniform(0.9, 1.5), root, root * rng.uniform(0.3, 1.0), rng.normal(0, 0.15))
            level = np.maximum(level, _limb(c * x + s * y, c * y - s * x, *shape))
        canvas = _paint(rng, level, 1.7, [Palette(rng, scene)])
        return cls((Part(canvas, 1.7, (0.0, 0.0), np.zeros(frames)),), 1.7)

    def distractor(self, rng: np.random.Generator, frames: int) -> "Body":
        """Another object of the same parts, put together at other angles."""
        turns = rng.uniform(0, 2 * np.pi, len(self.parts)) + drift(rng, frames, -0.4, 0.4, channels=len(self.parts))
        parts = (replace(part, swing=turn) for part, turn in zip(self.parts, turns.T, strict=True))
        return replace(self, parts=tuple(parts))


def canvas_grid(reach: float, resolution: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x and y, (n, n) each, of the cells of a canvas of half the side `reach` about the origin."""
    n = 16 * int(np.clip(round(reach * resolution / 8), 1, 40))  # a multiple of 16: quick Fourier transforms
    at = ((np.arange(n) + 0.5) * 2 / n - 1) * reach
    x, y = np.meshgrid(at, at)
    return x, y


def _blob(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Level of a closed outline about the origin: an ellipse or a box with lobes, of radius 0.25 to 1.5."""
    theta = np.arctan2(y, x)
    power, aspect = rng.choice([2.0, 2.0, 3.5]), rng.uniform(0.5, 1.0)
    radius = (np.abs(np.cos(theta)) ** power + np.abs(np.sin(theta) / aspect) ** power) ** (-1 / power)
    lobes = np.arange(2, 7)
    strength, phase = rng.normal(0, 0.22, 5) / lobes**0.7, rng.uniform(0, 2 * np.pi, 5)
    wave = (strength * np.cos(theta[..., None] * lobes + phase)).sum(axis=-1)
    level: np.ndarray = np.clip(radius * np.exp(wave), 0.25, 1.5) - np.hypot(x, y)
    return level


def _limb(x: np.ndarray, y: np.ndarray, length: float, root: float, tip: float, curve: float) -> np.ndarray:
    """Level of a limb from the origin along the x axis, off it by `curve * x**2`; `root` and `tip` are radii."""
    along = np.clip(x / length, 0, 1)
    level: np.ndarray = root + along * (tip - root) - np.hypot(x - along * length, y - curve * x**2)
    return level


def _paint(rng: np.random.Generator, level: np.ndarray, reach: float, palettes: list[Palette]) -> Tensor:
    """A canvas of one or two textures, shaded as a rounded surface, and the outline's level; (4, n, n)."""
    n = len(level)
    color = texture(rng, (n, n), palettes[rng.integers(len(palettes))])
    if rng.random() < 0.5:
        second = texture(rng, (n, n), palettes[rng.integers(len(palettes))])
        color = np.where(power_law_noise(rng, (1, n, n), 2.5)[0][..., None] > 0, color, second)
    rise_y, rise_x = np.gradient(np.clip(level, 0, 0.4), 2 * reach / n)  # slopes of about 1 near the outline
    direction = rng.uniform(0, 2 * np.pi)
    lit = (np.cos(direction) * rise_x + np.sin(direction) * rise_y) * np.exp(-np.clip(level, 0, None) / 0.2)
    color = (color * np.exp(rng.uniform(0, 0.45) * lit)[..., None]).clip(0, 1)
    painted = np.concatenate([color, level[..., None]], axis=-1)
    return torch.from_numpy(np.ascontiguousarray(painted.transpose(2, 0, 1), dtype=np.float32))
