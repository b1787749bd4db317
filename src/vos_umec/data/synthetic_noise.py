"""Noise and colors with the statistics of photographs, the ground of the synthetic textures."""

from dataclasses import dataclass

import numpy as np

# Principal axes of the logarithm of natural colors: brightness, blue against yellow, red against green.
_AXES = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])


def power_law_noise(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    exponent: float = 1.2,
    stretch: float = 1.0,
    band: float | None = None,
) -> np.ndarray:
    """Gaussian noise whose amplitude falls with frequency, as it does in photographs.

    Args:
        rng: Source of randomness.
        shape: (C, H, W); channels are independent.
        exponent: Amplitude is ``frequency ** -exponent``; photographs have about 1.
        stretch: Structure is longer by this factor along one random direction: grain, fur, water.
        band: Keep only the surroundings of this frequency, cycles per pixel: spots and mazes.

    Returns:
        (C, H, W) float32, mean 0 and deviation 1 in each channel.

    Source:
        The power spectrum of natural images (Field, 1987).

    Example:
        >>> noise = power_law_noise(np.random.default_rng(0), (2, 16, 24))
        >>> noise.shape, round(float(noise[0].std()), 3)
        ((2, 16, 24), 1.0)
    """
    channels, height, width = shape
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    direction = rng.uniform(0, np.pi)
    along = np.cos(direction) * fx + np.sin(direction) * fy
    across = np.cos(direction) * fy - np.sin(direction) * fx
    frequency = np.hypot(along * np.sqrt(stretch), across / np.sqrt(stretch))
    floor = 1 / max(height, width)
    amplitude = np.maximum(frequency, floor) ** -exponent
    if band is not None:
        amplitude = np.exp(-((np.log2(np.maximum(frequency, floor) / band) / 0.35) ** 2))
    amplitude[0, 0] = 0
    white = rng.standard_normal((channels, height, width), dtype=np.float32)
    noise = np.fft.irfft2(np.fft.rfft2(white) * amplitude.astype(np.float32), s=(height, width))
    noise /= np.maximum(noise.std(axis=(1, 2), keepdims=True), 1e-6)
    return noise.astype(np.float32)


@dataclass(frozen=True)
class Palette:
    """A family of colors that belong to one surface.

    Args:
        mean: (3,) logarithm of the middle color, RGB.
        spread: (3,) deviations along brightness, blue-yellow, red-green.

    Source:
        The decorrelated axes of natural colors (Ruderman, Cronin and Chiao, 1998).

    Example:
        >>> Palette(np.log([0.5, 0.25, 0.5]), np.zeros(3)).color(np.zeros(3)).tolist()
        [0.5, 0.25, 0.5]
    """

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def sample(cls, rng: np.random.Generator, scene: np.ndarray) -> "Palette":
        """The palette of one surface of a scene.

        Args:
            rng: Source of randomness.
            scene: (3,) logarithm of the scene's middle color; objects and backgrounds share it.

        Returns:
            The palette.

        Example:
            >>> Palette.sample(np.random.default_rng(0), np.log([0.4, 0.4, 0.4])).mean.shape
            (3,)
        """
        vivid = 2.0 if rng.random() < 0.3 else 1.0
        middle = rng.normal([0, 0.1, -0.02], [0.45, 0.14 * vivid, 0.08 * vivid])  # earth and leaves prevail
        return cls(scene + middle @ _AXES, np.array([0.55, 0.08 * vivid, 0.06 * vivid]) * rng.uniform(0.5, 1.2))

    def color(self, coordinates: np.ndarray) -> np.ndarray:
        """Colors at coordinates in units of the palette's deviations.

        Args:
            coordinates: (..., 3), standard normal for typical colors.

        Returns:
            (..., 3) RGB in [0.02, 1], float32.

        Example:
            >>> Palette(np.zeros(3), np.ones(3)).color(np.full((2, 3), -9.0)).min().round(2)
            np.float32(0.02)
        """
        log_color = self.mean + (coordinates * self.spread) @ _AXES
        color: np.ndarray = np.clip(np.exp(log_color), 0.02, 1.0)
        return color.astype(np.float32)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Random colors of the palette.

        Args:
            rng: Source of randomness.
            n: How many.

        Returns:
            (n, 3) RGB in [0.02, 1], float32.

        Example:
            >>> Palette(np.zeros(3), np.ones(3)).draw(np.random.default_rng(0), 4).shape
            (4, 3)
        """
        return self.color(rng.standard_normal((n, 3)))
