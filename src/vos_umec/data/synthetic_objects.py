"""Painted bodies of synthetic objects: a trunk with limbs, each part a canvas of texture and outline."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vos_umec.data.synthetic_noise import Palette, power_law_noise
from vos_umec.data.synthetic_paths import drift
from vos_umec.data.synthetic_shapes import blob, canvas_grid, limb, plant
from vos_umec.data.synthetic_textures import texture


@dataclass(frozen=True)
class Part:
    """One rigidly jointed part of an object.

    Args:
        canvas: (4, n, n) float32: RGB in [0, 1], then the outline's level (positive inside).
        reach: Half the canvas' side, object units.
        joint: x and y of the canvas' origin in the object, object units.
        swing: (T,) angle about the joint, radians.

    Example:
        >>> Part(torch.zeros(4, 8, 8), 1.0, (0.0, 0.0), np.zeros(3)).canvas.shape
        torch.Size([4, 8, 8])
    """

    canvas: Tensor
    reach: float
    joint: tuple[float, float]
    swing: np.ndarray


@dataclass(frozen=True)
class Body:
    """The parts of an object, back to front.

    Args:
        parts: The parts.
        reach: Radius about the origin that holds every part, object units.

    Example:
        >>> body = Body.sample(np.random.default_rng(0), 4, np.log([0.4, 0.4, 0.4]), resolution=8.0)
        >>> 1 <= len(body.parts) <= 4
        True
    """

    parts: tuple[Part, ...]
    reach: float

    @classmethod
    def sample(
        cls, rng: np.random.Generator, frames: int, scene: np.ndarray, resolution: float, most_limbs: int = 3
    ) -> "Body":
        """An articulated object: a trunk of one or two textures, and swinging limbs of others.

        Args:
            rng: Source of randomness.
            frames: T.
            scene: (3,) logarithm of the scene's middle color.
            resolution: Canvas cells per object unit.
            most_limbs: Largest number of limbs.

        Returns:
            The body; its trunk has a radius of about 1.

        Example:
            >>> Body.sample(np.random.default_rng(1), 4, np.log([0.4, 0.4, 0.4]), 8.0).parts[0].swing.shape
            (4,)
        """
        palettes = [Palette.sample(rng, scene) for _ in range(int(rng.integers(1, 4)))]
        reach = 1.6
        n = _cells(reach, resolution)
        level = blob(rng, *canvas_grid(n, reach))
        color = _cloth(rng, n, palettes, two=rng.random() < 0.7)
        trunk = Part(_canvas(rng, color, level), reach, (0.0, 0.0), np.zeros(frames))
        limbs = [_limb(rng, frames, palettes, resolution) for _ in range(int(rng.integers(0, most_limbs + 1)))]
        behind = int(rng.integers(0, len(limbs) + 1))
        parts = (*limbs[:behind], trunk, *limbs[behind:])
        return cls(parts, max(float(np.hypot(*part.joint)) + part.reach for part in parts))

    def twin(self, rng: np.random.Generator, frames: int) -> "Body":
        """Another object of the same textures: the parts are the same, put together in another way.

        Args:
            rng: Source of randomness.
            frames: T.

        Returns:
            The body, of the same reach.

        Example:
            >>> body = Body.sample(np.random.default_rng(1), 4, np.log([0.4, 0.4, 0.4]), 8.0)
            >>> len(body.twin(np.random.default_rng(2), 4).parts) == len(body.parts)
            True
        """
        turns = [rng.uniform(0, 2 * np.pi) + drift(rng, frames, -0.4, 0.4)[:, 0] for _ in self.parts]
        return Body(
            tuple(replace(part, swing=turn) for part, turn in zip(self.parts, turns, strict=True)), self.reach
        )

    @classmethod
    def occluder(cls, rng: np.random.Generator, frames: int, scene: np.ndarray, resolution: float) -> "Body":
        """Something between the camera and the objects: a bar, or a plant that grows from the origin.

        Args:
            rng: Source of randomness.
            frames: T.
            scene: (3,) logarithm of the scene's middle color.
            resolution: Canvas cells per object unit.

        Returns:
            The body; a bar is 3.2 long across the origin, a plant 1.5 tall.

        Example:
            >>> len(Body.occluder(np.random.default_rng(0), 4, np.log([0.4, 0.4, 0.4]), 8.0).parts)
            1
        """
        reach = 1.7
        n = _cells(reach, resolution)
        x, y = canvas_grid(n, reach)
        if rng.random() < 0.5:
            level = plant(rng, x, y, 1.5)
        else:
            thickness = rng.uniform(0.05, 0.13)
            level = limb(y + 1.6, x, 3.2, (thickness, thickness * rng.uniform(0.7, 1.3)), rng.normal(0, 0.03))
        color = _cloth(rng, n, [Palette.sample(rng, scene)], two=False)
        return cls((Part(_canvas(rng, color, level), reach, (0.0, 0.0), np.zeros(frames)),), reach * 1.42)


def _limb(rng: np.random.Generator, frames: int, palettes: list[Palette], resolution: float) -> Part:
    """A limb that swings about a joint on the trunk."""
    length, root, tip = rng.uniform(0.7, 1.3), rng.uniform(0.14, 0.3), rng.uniform(0.1, 0.4)
    reach = length + max(root, tip) + 0.15
    n = _cells(reach, resolution)
    level = limb(*canvas_grid(n, reach), length, (root, tip), rng.normal(0, 0.2))
    where, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.5)
    beat = rng.uniform(0.15, 0.6) * np.sin(rng.uniform(0.1, 0.45) * np.arange(frames) + rng.uniform(0, 2 * np.pi))
    return Part(
        _canvas(rng, _cloth(rng, n, palettes, two=False), level),
        reach,
        (distance * np.cos(where), distance * np.sin(where)),
        where + beat + drift(rng, frames, -0.3, 0.3)[:, 0],
    )


def _cloth(rng: np.random.Generator, n: int, palettes: list[Palette], two: bool) -> np.ndarray:
    """One texture, or two that share the canvas along a smooth border; (n, n, 3)."""
    first = texture(rng, (n, n), palettes[rng.integers(len(palettes))])
    if not two:
        return first
    second = texture(rng, (n, n), palettes[rng.integers(len(palettes))])
    x, y = canvas_grid(n, 1.0)
    direction = rng.uniform(0, 2 * np.pi)
    border = np.cos(direction) * x + np.sin(direction) * y + 0.15 * power_law_noise(rng, (1, n, n), 2.2)[0]
    return np.where(border[..., None] > rng.uniform(-0.25, 0.25), first, second)


def _canvas(rng: np.random.Generator, color: np.ndarray, level: np.ndarray) -> Tensor:
    """Shade the colors as on a rounded surface and join them with the level; (4, n, n)."""
    rise_y, rise_x = np.gradient(np.clip(level, 0, 0.4))
    direction = rng.uniform(0, 2 * np.pi)
    lit = (np.cos(direction) * rise_x + np.sin(direction) * rise_y) / max(
        float(np.hypot(rise_x, rise_y).max()), 1e-6
    )
    shade = np.exp(rng.uniform(0, 0.45) * lit * np.exp(-np.clip(level, 0, None) / 0.2))
    painted = np.concatenate([np.clip(color * shade[..., None], 0, 1), level[..., None]], axis=-1)
    return torch.from_numpy(np.ascontiguousarray(painted.transpose(2, 0, 1), dtype=np.float32))


def _cells(reach: float, resolution: float) -> int:
    """Side of a canvas: a multiple of 16, for the speed of its Fourier transforms."""
    return int(np.clip(round(reach * resolution / 8), 1, 40)) * 16
