"""Textures of synthetic surfaces, with the statistics of photographs: leaves, grain, stripes, spots, patches."""

import numpy as np

Size = tuple[int, int]  # (H, W)

# Principal axes of the logarithm of natural colors: brightness, blue against yellow, red against green
# (Ruderman, Cronin and Chiao, 1998).
_AXES = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])


def power_law_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], exponent: float, stretch: float = 1.0
) -> np.ndarray:
    """Gaussian noise (C, H, W) float32 with the amplitude `frequency ** -exponent`, mean 0 and deviation 1.

    Photographs have an exponent of about 1 (Field, 1987). Structure is longer by `stretch` along one random
    direction, as in fur or water. The channels are independent.
    """
    _, height, width = shape
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    direction = rng.uniform(0, np.pi)
    along = np.cos(direction) * fx + np.sin(direction) * fy
    across = np.cos(direction) * fy - np.sin(direction) * fx
    frequency = np.hypot(along * np.sqrt(stretch), across / np.sqrt(stretch))
    amplitude = np.maximum(frequency, 1 / max(height, width)) ** -exponent
    amplitude[0, 0] = 0
    white = rng.standard_normal(shape, dtype=np.float32)
    noise = np.fft.irfft2(np.fft.rfft2(white) * amplitude.astype(np.float32), s=(height, width))
    noise /= np.maximum(noise.std(axis=(1, 2), keepdims=True), 1e-6)
    return noise.astype(np.float32)


class Palette:
    """A family of colors of one surface, about the mean color of the scene: its logarithm, (3,) RGB."""

    def __init__(self, rng: np.random.Generator, scene: np.ndarray) -> None:
        vivid = 2.0 if rng.random() < 0.3 else 1.0
        mean = rng.normal([0, 0.1, -0.02], [0.45, 0.14 * vivid, 0.08 * vivid])  # earth and leaves prevail
        self._mean = scene + mean @ _AXES
        self._spread = np.array([0.55, 0.08 * vivid, 0.06 * vivid]) * rng.uniform(0.5, 1.2)

    def color(self, coordinates: np.ndarray) -> np.ndarray:
        """Colors (..., 3), RGB in [0.02, 1], at standard normal coordinates (..., 3) along the palette's axes."""
        colors: np.ndarray = np.exp(self._mean + (coordinates * self._spread) @ _AXES).clip(0.02, 1.0)
        return colors.astype(np.float32)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Random colors (n, 3), RGB in [0.02, 1]."""
        return self.color(rng.standard_normal((n, 3)))


def texture(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """A texture of a random kind, (H, W, 3) RGB in [0.01, 1], float32."""
    kinds = [_leaves, _grain, _stripes, _patches]
    surface = kinds[rng.choice(4, p=[0.42, 0.27, 0.18, 0.13])](rng, size, palette)
    relief = power_law_noise(rng, (1, *size), rng.uniform(0.6, 1.1))[0]
    lit: np.ndarray = surface * np.exp(rng.uniform(0.08, 0.22) * relief)[..., None]
    return lit.clip(0.01, 1.0).astype(np.float32)


def _leaves(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """Opaque leaves that cover each other, each with a color, grain and shading of its own.

    The dead-leaves model of natural images (Lee, Mumford and Huang, 2001): radii with density `r ** -3`.
    """
    height, width = size
    smallest, largest = 3.0, max(4.0, 0.25 * min(size))
    mean_area = 2 * np.pi * smallest**2 * np.log(largest / smallest)
    n = int(np.clip(2.2 * height * width / mean_area, 12, 4000))
    radius = smallest / np.sqrt(1 - rng.random(n) * (1 - (smallest / largest) ** 2))
    radius[0] = max(size)  # leaf 0 is the ground below the others
    center, angle, aspect = rng.random((n, 2)) * size, rng.uniform(0, np.pi, n), rng.uniform(0.35, 1.0, n)
    boxy = rng.random(n) < 0.33
    leaf = np.zeros(size, dtype=np.int32)
    y, x = np.arange(height)[:, None], np.arange(width)
    for i in range(1, n):
        (cy, cx), r = center[i], radius[i] * 1.2
        rows, columns = slice(max(0, int(cy - r)), int(cy + r) + 2), slice(max(0, int(cx - r)), int(cx + r) + 2)
        dy, dx = y[rows] - cy, x[columns] - cx
        c, s = np.cos(angle[i]) / radius[i], np.sin(angle[i]) / radius[i]
        u, v = (c * dx + s * dy) ** 2, ((c * dy - s * dx) / aspect[i]) ** 2
        inside = (u * u + v * v if boxy[i] else u + v) < 1  # a box with round corners, or an ellipse
        leaf[rows, columns][inside] = i
    grain = power_law_noise(rng, (1, *size), 1.0)[0]
    offset = rng.integers(0, min(size), (n, 2))  # each leaf is cut from another place of the grain
    marks = grain[(y + offset[leaf, 0]) % height, (x + offset[leaf, 1]) % width]
    across = (y - center[leaf, 0]) * np.sin(angle)[leaf] + (x - center[leaf, 1]) * np.cos(angle)[leaf]
    shade = np.exp((rng.normal(0, 0.2, n) / radius)[leaf] * across + rng.uniform(0, 0.25, n)[leaf] * marks)
    picture: np.ndarray = palette.draw(rng, n)[leaf] * shade[..., None]
    return picture


def _grain(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """Colored noise, often drawn out along one direction."""
    noise = power_law_noise(rng, (3, *size), rng.uniform(0.9, 2.2), rng.choice([1.0, 3.0, 8.0]))
    return palette.color(np.moveaxis(noise, 0, -1) * rng.uniform(0.7, 1.3))


def _stripes(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """Warped stripes of two colors, or spots where two sets of stripes cross."""
    y, x = np.indices(size, dtype=np.float32)
    direction, period = rng.uniform(0, np.pi), rng.uniform(8, 28)
    warp = power_law_noise(rng, (2, *size), 2.0) * rng.uniform(0.3, 2.0)
    along, across = np.cos(direction) * x + np.sin(direction) * y, np.cos(direction) * y - np.sin(direction) * x
    wave = np.sin(2 * np.pi * along / period + warp[0])
    if rng.random() < 0.5:
        wave *= np.sin(2 * np.pi * across / (period * rng.uniform(1, 2)) + warp[1])
    share = 0.5 + 0.5 * np.tanh(rng.uniform(1, 4) * (wave - rng.uniform(-0.5, 0.5)))
    colors = palette.draw(rng, 6)
    farthest = np.abs(np.log(colors / colors[0])).sum(axis=1).argmax()  # two clearly different colors
    mixed: np.ndarray = colors[0] + share[..., None] * (colors[farthest] - colors[0])
    return mixed


def _patches(rng: np.random.Generator, size: Size, palette: Palette) -> np.ndarray:
    """A few colors in irregular patches, as on clothes, rock and hides."""
    layers = power_law_noise(rng, (int(rng.integers(3, 6)), *size), rng.uniform(1.3, 2.0))
    picture: np.ndarray = palette.draw(rng, len(layers))[layers.argmax(axis=0)]
    return picture
