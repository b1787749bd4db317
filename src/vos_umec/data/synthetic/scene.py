"""One synthetic video: a camera that pans over a background, and the actors in front of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.data.synthetic.motion import Pose, drift, live, walk
from vos_umec.data.synthetic.objects import Body
from vos_umec.data.synthetic.textures import Palette, Size, power_law_noise, texture
from vos_umec.errors import ConfigError

SMALLEST_SHARE = 0.01  # of the first frame's area that each labeled object must show
ATTEMPTS = 200


@dataclass(frozen=True)
class Actor:
    """A body in motion, one pose a frame.

    Its label is its id in the masks, 0 for what belongs to the background (plants, distractors). It casts a shadow
    of a strength of 0 to 1.
    """

    body: Body
    poses: Sequence[Pose]
    label: int
    shadow: float = 0.0


def compose(picture: Tensor, actors: Sequence[Actor], t: int) -> Tensor:
    """Draw actors, back to front, over a picture (3, H, W) float32, in place; return the ids (H, W) uint8.

    Edges are blended by the share of the pixel that the object covers. A pixel of the mask belongs to the
    front-most actor that covers at least half of it.
    """
    _, height, width = picture.shape
    ids = torch.zeros(height, width, dtype=torch.uint8)
    for actor in actors:
        pose = actor.poses[t]
        center, radius = np.array(pose.center), pose.radius(actor.body.reach)
        x0, y0 = np.clip(center - radius, 0, (width, height)).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(center + radius), 0, (width, height)).astype(int).tolist()
        if x1 - x0 < 2 or y1 - y0 < 2:
            continue
        x, y = pose.to_object((y0, y1), (x0, x1))
        color, coverage = torch.zeros(3, *x.shape), torch.zeros(x.shape)  # color is times coverage
        for part in actor.body.parts:
            drawn, share = part.sample(t, x, y)
            color = torch.lerp(color, drawn, share)
            coverage = coverage + share * (1 - coverage)
        window = picture[:, y0:y1, x0:x1]
        if actor.shadow:
            window *= 1 - actor.shadow * _shadow(coverage, max(1, round(0.15 * pose.scale)))
        window *= 1 - coverage
        window += color
        ids[y0:y1, x0:x1][coverage >= 0.5] = actor.label
    return ids


def _shadow(coverage: Tensor, shift: int) -> Tensor:
    """Coverage (h, w), shifted down and blurred by `shift` pixels."""
    lower = F.pad(coverage, (0, 0, shift, 0))[: len(coverage)]
    small = F.interpolate(lower[None, None], size=[-(-n // shift) for n in lower.shape], mode="area")
    return F.interpolate(small, size=lower.shape, mode="bilinear")[0, 0]


@dataclass(frozen=True)
class Scene:
    """A synthetic video, ready to be drawn.

    Args:
        size: (H, W).
        background: (3, Hb, Wb) float32 in [0, 1], larger than the frame; mirrored beyond its borders.
        views: (T, 2, 3) affine maps from the frame to the background, both in [-1, 1].
        gain: (T, 3) exposure of R, G, B.
        noise: Deviation of the sensor's noise, in units of the brightest value.
        actors: Back to front; labeled objects, distractors and plants.
        seed: Of the sensor's noise.

    Example:
        >>> scene = Scene.sample([0, 1], size=(48, 80), frames=2, objects=(1, 1))
        >>> frame, ids = next(iter(scene))
        >>> frame.shape, ids.shape, np.unique(ids).tolist()
        ((48, 80, 3), (48, 80), [0, 1])
    """

    size: Size
    background: Tensor
    views: np.ndarray
    gain: np.ndarray
    noise: float
    actors: tuple[Actor, ...]
    seed: int

    @classmethod
    def sample(cls, seed: list[int], size: Size, frames: int, objects: tuple[int, int]) -> "Scene":
        """A random scene in whose first frame every labeled object, 1 to K, shows at least 1 % of the area.

        Other seeds give independent scenes. `size` is (H, W), at least 32 each; `objects` are the fewest and the
        most labeled objects.

        Raises:
            ConfigError: So many objects that they hide each other in every attempt to place them.
        """
        rng = np.random.default_rng(seed)
        height, width = size
        mood = np.log(0.38) + rng.normal(0, 0.15) + rng.normal(0, 0.08, 3)  # the mean color, log RGB
        background = _background(rng, (round(height / 10) * 16, round(width / 10) * 16), mood)
        pan = drift(rng, frames, -0.3, 0.3, every=16, channels=2) * rng.uniform(0.3, 1.5) * height
        zoom, roll = np.exp(drift(rng, frames, -0.18, 0.18, every=20)), drift(rng, frames, -0.12, 0.12, every=20)
        c, s = zoom * np.cos(roll), zoom * np.sin(roll)
        views = np.hstack([c, -s, pan[:, :1], s, c, pan[:, 1:]]).reshape(frames, 2, 3)  # in pixels
        views *= np.array([width, height, 2]) / np.array([[background.shape[2]], [background.shape[1]]])
        gain = np.exp(drift(rng, frames, -0.12, 0.12) + drift(rng, frames, -0.03, 0.03, channels=3))
        noise = rng.uniform(0.004, 0.015)
        count = int(rng.integers(objects[0], objects[1] + 1))
        radii = rng.uniform(0.16, 0.28, count) * height
        cast = [(label, Body.sample(rng, frames, mood, radius), radius) for label, radius in enumerate(radii, 1)]
        if rng.random() < 0.5:  # a distractor that looks like a labeled object
            cast.append((0, cast[0][1].distractor(rng, frames), radii[0] * rng.uniform(0.8, 1.1)))
        cast = [cast[i] for i in rng.permutation(len(cast))]
        plants = []
        if rng.random() < 0.6:  # near the camera: it sweeps across when the camera pans, and sways a little
            sweep = (pan[0] - pan) * rng.uniform(1.2, 1.8) + drift(rng, frames, -0.02, 0.02, channels=2) * height
            root = (width * rng.uniform(0.1, 0.9), height * rng.uniform(0.9, 1.1))
            poses = live(rng, sweep + root, height * rng.uniform(0.4, 0.8), strength=0.25)
            plants = [Actor(Body.plant(rng, frames, mood, height / 1.5), poses, label=0)]
        for _ in range(ATTEMPTS):
            actors: list[Actor] = []
            for label, body, radius in cast:
                path = _apart(rng, size, frames, [actor.poses[0].center for actor in actors])
                actors.append(Actor(body, live(rng, path, radius), label, shadow=rng.uniform(0, 0.4)))
            ids = compose(torch.zeros(3, *size), [*actors, *plants], 0)
            shown = torch.bincount(ids.flatten(), minlength=count + 1)[1:]
            if (shown >= SMALLEST_SHARE * ids.numel()).all():
                return cls(size, background, views, gain, noise, (*actors, *plants), int(rng.integers(2**32)))
        raise ConfigError(
            f"{count} objects did not fit into a frame of {height} x {width} in {ATTEMPTS} attempts, each to show "
            f"{SMALLEST_SHARE:.0%} of it: ask for fewer objects"
        )

    def draw(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """One frame (H, W, 3) uint8 RGB, and its exact mask of ids (H, W) uint8."""
        view = torch.from_numpy(self.views[t : t + 1]).float()
        grid = F.affine_grid(view, [1, 3, *self.size], align_corners=False)
        picture = F.grid_sample(self.background[None], grid, padding_mode="reflection", align_corners=False)[0]
        ids = compose(picture, self.actors, t)
        grains = np.random.default_rng([self.seed, t]).standard_normal(picture.shape, dtype=np.float32)
        lit = picture.numpy() * self.gain[t].astype(np.float32)[:, None, None] + self.noise * grains
        frame = (lit * 255).round().clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(frame.transpose(1, 2, 0)), ids.numpy()

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames with their masks, in order."""
        return (self.draw(t) for t in range(len(self.views)))


def _background(rng: np.random.Generator, size: Size, mood: np.ndarray) -> Tensor:
    """Two to four surfaces with winding borders, and things that lie on them, in uneven light; (3, H, W).

    The things have outlines and shading like the objects', so neither gives an object away.
    """
    height, width = size
    depth = power_law_noise(rng, (int(rng.integers(2, 5)), *size), 2.0)
    depth[0] += np.linspace(-2.5, 2.5, height)[:, None]  # the ground lies below, the rest where it falls
    surfaces = [texture(rng, size, Palette(rng, mood)) for _ in depth]
    light = np.exp(rng.uniform(0.05, 0.25) * power_law_noise(rng, (1, *size), 2.0)[0])
    ground = np.choose(depth.argmax(axis=0)[..., None], surfaces) * light[..., None]
    picture = torch.from_numpy(np.ascontiguousarray(ground.transpose(2, 0, 1)))
    things = []
    for _ in range(int(rng.integers(0, 5))):
        radius = height * rng.uniform(0.05, 0.15)
        pose = Pose((width * rng.random(), height * rng.random()), radius)
        body = Body.sample(rng, 1, mood, radius, most_limbs=0)
        things.append(Actor(body, [pose], label=0, shadow=rng.uniform(0, 0.4)))
    compose(picture, things, 0)
    return picture.clamp(0, 1)


def _apart(rng: np.random.Generator, size: Size, frames: int, taken: list[tuple[float, float]]) -> np.ndarray:
    """The path (T, 2) of an object that starts apart from the places taken, at a pace of its own."""
    places = rng.uniform(0.2, 0.8, (4, 2)) * (size[1], size[0])
    apart = [min((np.hypot(*(place - other)) for other in taken), default=0.0) for place in places]
    return walk(rng, frames, places[int(np.argmax(apart))], size, size[0] * rng.uniform(0.02, 0.16))
