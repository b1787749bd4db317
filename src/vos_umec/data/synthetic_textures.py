"""Textures of synthetic surfaces: dead leaves, grain, stripes, spots and patches, all from one family."""

from collections.abc import Callable

import numpy as np

from vos_umec.data.synthetic_noise import Palette, power_law_noise

Size = tuple[int, int]  # (H, W)


def texture(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """A texture of a random kind.

    Args:
        rng: Source of randomness.
        size: (H, W), at least 4 x 4.
        palette: Colors of the surface.

    Returns:
        (H, W, 3) RGB in [0.01, 1], float32.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> texture(rng, (16, 24), Palette.sample(rng, np.log([0.4, 0.4, 0.4]))).shape
        (16, 24, 3)
    """
    kinds: list[Callable[[np.random.Generator, Size, Palette], np.ndarray]]
    kinds = [dead_leaves, grain, stripes, spots, patches]
    surface = kinds[rng.choice(len(kinds), p=[0.42, 0.27, 0.08, 0.1, 0.13])](rng, size, palette)
    relief = power_law_noise(rng, (1, *size), rng.uniform(0.6, 1.1))[0]
    lit: np.ndarray = surface * np.exp(rng.uniform(0.08, 0.22) * relief)[..., None]
    return lit.clip(0.01, 1.0)


def dead_leaves(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """Opaque leaves of power-law sizes that occlude each other, each with a grain and shading of its own.

    Args:
        rng: Source of randomness.
        size: (H, W).
        palette: Colors of the leaves.

    Returns:
        (H, W, 3) RGB, float32.

    Source:
        The dead-leaves model of natural images (Lee, Mumford and Huang, 2001): radii with density r ** -3.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> dead_leaves(rng, (16, 24), Palette.sample(rng, np.log([0.4, 0.4, 0.4]))).dtype
        dtype('float32')
    """
    height, width = size
    smallest, largest = 3.0, max(4.0, 0.25 * min(size))
    mean_area = 2 * np.pi * smallest**2 * np.log(largest / smallest)
    n = int(np.clip(2.2 * height * width / mean_area, 12, 4000))
    radius = smallest / np.sqrt(1 - rng.random(n) * (1 - (smallest / largest) ** 2))
    radius[0] = max(size)  # the ground below all leaves
    centre = rng.random((n, 2)) * size
    angle, aspect = rng.uniform(0, np.pi, n), rng.uniform(0.35, 1.0, n)
    squareness = rng.choice([2.0, 2.0, 6.0], n)  # ellipses, and boxes with round corners
    leaf = np.zeros(size, dtype=np.int32)
    for i in range(1, n):
        (cy, cx), r = centre[i], radius[i] * 1.2
        y0, y1 = max(0, int(cy - r)), min(height, int(cy + r) + 2)
        x0, x1 = max(0, int(cx - r)), min(width, int(cx + r) + 2)
        y, x = np.arange(y0, y1)[:, None] - cy, np.arange(x0, x1)[None] - cx
        c, s = np.cos(angle[i]) / radius[i], np.sin(angle[i]) / radius[i]
        inside = np.abs(c * x + s * y) ** squareness[i] + np.abs((c * y - s * x) / aspect[i]) ** squareness[i] < 1
        leaf[y0:y1, x0:x1][inside] = i
    rows, columns = np.indices(size)
    grain_field = power_law_noise(rng, (1, *size), 1.0)[0]
    offset = rng.integers(0, min(size), (n, 2))  # each leaf is cut from another place of the grain
    marks = grain_field[(rows + offset[leaf, 0]) % height, (columns + offset[leaf, 1]) % width]
    across = (rows - centre[leaf, 0]) * np.sin(angle)[leaf] + (columns - centre[leaf, 1]) * np.cos(angle)[leaf]
    shade = np.exp(rng.normal(0, 0.2, n)[leaf] * across / radius[leaf] + rng.uniform(0, 0.25, n)[leaf] * marks)
    picture: np.ndarray = palette.draw(rng, n)[leaf] * shade[..., None]
    return picture.astype(np.float32)


def grain(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """Colored noise with the spectrum of photographs, often drawn out along one direction.

    Args:
        rng: Source of randomness.
        size: (H, W).
        palette: Colors.

    Returns:
        (H, W, 3) RGB, float32.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> grain(rng, (16, 24), Palette.sample(rng, np.log([0.4, 0.4, 0.4]))).shape
        (16, 24, 3)
    """
    stretch = rng.choice([1.0, 3.0, 8.0])
    noise = power_law_noise(rng, (3, *size), rng.uniform(0.9, 2.2), stretch)
    return palette.color(np.moveaxis(noise, 0, -1) * rng.uniform(0.7, 1.3))


def stripes(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """Warped stripes of two colors.

    Args:
        rng: Source of randomness.
        size: (H, W).
        palette: Colors.

    Returns:
        (H, W, 3) RGB, float32.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> stripes(rng, (16, 24), Palette.sample(rng, np.log([0.4, 0.4, 0.4]))).shape
        (16, 24, 3)
    """
    y, x = np.indices(size, dtype=np.float32)
    direction, period = rng.uniform(0, np.pi), rng.uniform(8, 28)
    warp = power_law_noise(rng, (1, *size), 2.0)[0] * rng.uniform(0.3, 2.0)
    wave = np.sin(2 * np.pi * (x * np.cos(direction) + y * np.sin(direction)) / period + warp)
    return _between(rng, palette, np.tanh(rng.uniform(1, 4) * (wave - rng.uniform(-0.5, 0.5))))


def spots(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """Spots or a maze of one color on another.

    Args:
        rng: Source of randomness.
        size: (H, W).
        palette: Colors.

    Returns:
        (H, W, 3) RGB, float32.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> spots(rng, (16, 24), Palette.sample(rng, np.log([0.4, 0.4, 0.4]))).shape
        (16, 24, 3)
    """
    noise = power_law_noise(rng, (1, *size), stretch=rng.uniform(1, 3), band=1 / rng.uniform(10, 26))[0]
    return _between(rng, palette, np.tanh(rng.uniform(2, 6) * (noise - rng.uniform(-0.2, 1.0))))


def patches(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """A few colors in irregular patches, as on clothes, rock and hides.

    Args:
        rng: Source of randomness.
        size: (H, W).
        palette: Colors.

    Returns:
        (H, W, 3) RGB, float32.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> patches(rng, (16, 24), Palette.sample(rng, np.log([0.4, 0.4, 0.4]))).shape
        (16, 24, 3)
    """
    layers = power_law_noise(rng, (int(rng.integers(3, 6)), *size), rng.uniform(1.3, 2.0))
    picture: np.ndarray = palette.draw(rng, len(layers))[layers.argmax(axis=0)]
    return picture


def _between(rng: np.random.Generator, palette: Palette, position: np.ndarray) -> np.ndarray:
    """Mix two clearly different colors of the palette; position -1 is the one, +1 the other."""
    colors = palette.draw(rng, 6)
    first = colors[0]
    second = colors[np.abs(np.log(colors / first)).sum(axis=1).argmax()]
    share = (position[..., None] + 1) / 2
    picture: np.ndarray = first * (1 - share) + second * share
    return picture.astype(np.float32)
