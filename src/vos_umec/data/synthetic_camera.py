"""The camera of a synthetic video: the background it pans over, the light, the lens and the sensor."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.data.synthetic_compose import Actor, compose
from vos_umec.data.synthetic_motion import Motion
from vos_umec.data.synthetic_noise import Palette, power_law_noise
from vos_umec.data.synthetic_objects import Body
from vos_umec.data.synthetic_paths import drift
from vos_umec.data.synthetic_textures import texture


@dataclass(frozen=True)
class Camera:
    """How a camera moves over its background, and how it exposes.

    Args:
        background: (3, Hb, Wb) float32 in [0, 1], larger than the frame; mirrored beyond its borders.
        views: (T, 3, 3) homographies from the frame to the background; both in units of the frame's height
            about their middles.
        shake: (T, 2) x and y by which everything in the scene jumps, pixels.
        gain: (T, 3) exposure of R, G, B.
        glow: (T, 2) slope of the light over the frame, along x and y, relative.
        blur: Share of a pixel's light that the lens gives to each of its neighbours, 0 to 1/3.
        noise: Deviation of the sensor's noise, in units of the brightest value.

    Example:
        >>> Camera.sample(np.random.default_rng(0), (24, 40), 3, np.log([0.4, 0.4, 0.4])).views.shape
        (3, 3, 3)
    """

    background: Tensor
    views: np.ndarray
    shake: np.ndarray
    gain: np.ndarray
    glow: np.ndarray
    blur: float
    noise: float

    @classmethod
    def sample(cls, rng: np.random.Generator, size: tuple[int, int], frames: int, scene: np.ndarray) -> "Camera":
        """A random camera in front of a random background.

        Args:
            rng: Source of randomness.
            size: (H, W).
            frames: T.
            scene: (3,) logarithm of the scene's middle color.

        Returns:
            The camera.

        Example:
            >>> Camera.sample(np.random.default_rng(0), (24, 40), 3, np.log([0.4, 0.4, 0.4])).gain.shape
            (3, 3)
        """
        height, width = size
        shake = rng.normal(0, 0.004 * height * rng.random(), (frames + 2, 2))
        shake = (shake[:-2] + 2 * shake[1:-1] + shake[2:]) / 2  # a hand trembles, it does not jump
        pan = drift(rng, frames, -0.3, 0.3, every=16, channels=2) * rng.uniform(0.3, 1.5) - shake / height
        zoom = np.exp(drift(rng, frames, -0.18, 0.18, every=20)[:, 0])
        roll = drift(rng, frames, -0.12, 0.12, every=20)[:, 0]
        tilt = drift(rng, frames, -0.06, 0.06, every=20, channels=2)
        views = np.zeros((frames, 3, 3))
        views[:, 0, 0] = views[:, 1, 1] = zoom * np.cos(roll)
        views[:, 1, 0] = zoom * np.sin(roll)
        views[:, 0, 1] = -views[:, 1, 0]
        views[:, :2, 2] = pan
        views[:, 2, :2] = tilt
        views[:, 2, 2] = 1
        return cls(
            background=_background(rng, (_canvas_side(height), _canvas_side(width)), scene),
            views=views,
            shake=shake,
            gain=np.exp(drift(rng, frames, -0.12, 0.12) + drift(rng, frames, -0.03, 0.03, channels=3)),
            glow=drift(rng, frames, -0.3, 0.3, every=20, channels=2),
            blur=rng.uniform(0.02, 0.22),
            noise=rng.uniform(0.004, 0.015),
        )

    def view(self, t: int, size: tuple[int, int]) -> Tensor:
        """The background as the camera sees it.

        Args:
            t: Frame.
            size: (H, W).

        Returns:
            (3, H, W) float32 in [0, 1].

        Example:
            >>> camera = Camera.sample(np.random.default_rng(0), (24, 40), 3, np.log([0.4, 0.4, 0.4]))
            >>> camera.view(2, (24, 40)).shape
            torch.Size([3, 24, 40])
        """
        height, width = size
        y = (torch.arange(height, dtype=torch.float32) + 0.5) / height - 0.5
        x = ((torch.arange(width, dtype=torch.float32) + 0.5) - 0.5 * width) / height
        m = self.views[t].tolist()
        at = [x[None] * row[0] + y[:, None] * row[1] + row[2] for row in m]  # 3 x (H, W)
        _, deep, wide = self.background.shape
        grid = torch.stack([at[0] * (2 * height / wide), at[1] * (2 * height / deep)], dim=-1) / at[2][..., None]
        return F.grid_sample(self.background[None], grid[None], padding_mode="reflection", align_corners=False)[0]

    def expose(self, picture: Tensor, t: int, seed: int) -> np.ndarray:
        """Light, lens and sensor.

        Args:
            picture: (3, H, W) float32 in [0, 1].
            t: Frame.
            seed: Of the noise; each frame of each video takes another.

        Returns:
            (H, W, 3) uint8 RGB.

        Example:
            >>> camera = Camera.sample(np.random.default_rng(0), (24, 40), 3, np.log([0.4, 0.4, 0.4]))
            >>> camera.expose(torch.zeros(3, 24, 40), t=0, seed=0).shape
            (24, 40, 3)
        """
        _, height, width = picture.shape
        across, down = self.glow[t].tolist()
        light = torch.exp(
            torch.linspace(-across, across, width)[None] + torch.linspace(-down, down, height)[:, None]
        )
        lit = picture * light * torch.tensor(self.gain[t], dtype=torch.float32)[:, None, None]
        wide = F.pad(lit[None], (1, 1, 1, 1), mode="replicate")[0]
        tall = wide[:, :, 1:-1] * (1 - 2 * self.blur) + (wide[:, :, :-2] + wide[:, :, 2:]) * self.blur
        seen = tall[:, 1:-1] * (1 - 2 * self.blur) + (tall[:, :-2] + tall[:, 2:]) * self.blur
        grains = torch.from_numpy(np.random.default_rng(seed).standard_normal(seen.shape, dtype=np.float32))
        exposed = ((seen + self.noise * grains) * 255).round().clamp(0, 255).to(torch.uint8)
        return exposed.permute(1, 2, 0).contiguous().numpy()


def _background(rng: np.random.Generator, size: tuple[int, int], scene: np.ndarray) -> Tensor:
    """Two to four surfaces with winding borders and things that lie on them, in uneven light; (3, H, W).

    The things have outlines and shading like the objects', so neither gives an object away.
    """
    height, width = size
    regions = int(rng.integers(2, 5))
    depth = power_law_noise(rng, (regions, *size), 2.0)
    depth[0] += np.linspace(-2.5, 2.5, height)[:, None]  # the ground lies below, the rest where it falls
    surfaces = [texture(rng, size, Palette.sample(rng, scene)) for _ in range(regions)]
    ground = np.choose(depth.argmax(axis=0)[..., None], surfaces)
    picture = torch.from_numpy(np.ascontiguousarray(ground.transpose(2, 0, 1)))
    things = []
    for _ in range(int(rng.integers(0, 5))):
        radius = height * rng.uniform(0.05, 0.15)
        place = (width * rng.random(), height * rng.random())
        body = Body.sample(rng, 1, scene, radius, most_limbs=0)
        things.append(Actor(body, Motion.still(1, place, radius), label=0, shadow=rng.uniform(0, 0.4)))
    compose(picture, things, 0)
    light = torch.from_numpy(np.exp(rng.uniform(0.05, 0.25) * power_law_noise(rng, (1, *size), 2.0)))
    return (picture * light).clamp(0, 1)


def _canvas_side(side: int) -> int:
    """1.6 times a side of the frame, a multiple of 16 for the speed of the Fourier transforms."""
    return round(side / 10) * 16
