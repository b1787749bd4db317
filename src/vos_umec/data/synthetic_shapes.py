"""Outlines of synthetic objects as level functions: positive inside, zero on the outline, negative outside."""

import numpy as np


def canvas_grid(n: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the cell centres of a square canvas about the origin.

    Args:
        n: Cells along a side.
        reach: Half the side, object units.

    Returns:
        x and y, (n, n) each.

    Example:
        >>> canvas_grid(2, 1.0)[0].tolist()
        [[-0.5, 0.5], [-0.5, 0.5]]
    """
    at = ((np.arange(n) + 0.5) * 2 / n - 1) * reach
    x, y = np.meshgrid(at, at)
    return x, y


def blob(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A closed outline about the origin: between ellipse and box, with Fourier lobes.

    Args:
        rng: Source of randomness.
        x: (n, n) coordinates; the outline stays within a distance of 1.5 from the origin.
        y: (n, n) coordinates.

    Returns:
        (n, n) level.

    Example:
        >>> x, y = canvas_grid(32, 2.0)
        >>> level = blob(np.random.default_rng(0), x, y)
        >>> bool(level[16, 16] > 0), bool((level[np.hypot(x, y) > 1.5] < 0).all())
        (True, True)
    """
    theta = np.arctan2(y, x)
    power, aspect = rng.choice([2.0, 2.0, 3.5]), rng.uniform(0.5, 1.0)
    radius = (np.abs(np.cos(theta)) ** power + np.abs(np.sin(theta) / aspect) ** power) ** (-1 / power)
    lobes = np.arange(2, 7)
    strength = rng.normal(0, 0.22, len(lobes)) / lobes**0.7
    phase = rng.uniform(0, 2 * np.pi, len(lobes))
    wave = (strength * np.cos(theta[..., None] * lobes + phase)).sum(axis=-1)
    level: np.ndarray = np.clip(radius * np.exp(wave), 0.25, 1.5) - np.hypot(x, y)
    return level.clip(max=0.5)


def limb(
    x: np.ndarray, y: np.ndarray, length: float, thickness: tuple[float, float], curve: float = 0.0
) -> np.ndarray:
    """A tapered limb from the origin along the x axis.

    Args:
        x: (n, n) coordinates.
        y: (n, n) coordinates.
        length: From joint to tip, greater than 0.
        thickness: Radius at the joint and at the tip.
        curve: Bends the limb off the axis by ``curve * x**2``.

    Returns:
        (n, n) level.

    Example:
        >>> limb(np.array([[1.0, 1.0]]), np.array([[0.0, 0.5]]), 2.0, (0.2, 0.2)).round(2).tolist()
        [[0.2, -0.3]]
    """
    y = y - curve * x**2
    along = np.clip(x / length, 0, 1)
    radius = thickness[0] + along * (thickness[1] - thickness[0])
    level: np.ndarray = radius - np.hypot(x - along * length, y)
    return level


def plant(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, length: float) -> np.ndarray:
    """Bent blades that grow upwards (towards negative y) from the origin.

    Args:
        rng: Source of randomness.
        x: (n, n) coordinates.
        y: (n, n) coordinates.
        length: Of the longest blade.

    Returns:
        (n, n) level.

    Example:
        >>> x, y = canvas_grid(32, 2.0)
        >>> level = plant(np.random.default_rng(0), x, y, length=1.5)
        >>> bool((level > 0).any()), bool((level[y > 0.5] < 0).all())
        (True, True)
    """
    level = np.full_like(x, -1e3)
    for _ in range(int(rng.integers(3, 8))):
        angle = -np.pi / 2 + rng.normal(0, 0.3)
        c, s = np.cos(angle), np.sin(angle)
        tall = length * rng.uniform(0.6, 1.0)
        blade = limb(
            c * x + s * y,
            c * y - s * x,
            tall,
            (length * rng.uniform(0.03, 0.06), length * rng.uniform(0.01, 0.04)),
            rng.normal(0, 0.25) / tall,
        )
        level = np.maximum(level, blade)
    return level
