"""One synthetic video: a camera, its background, and the actors in front of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from vos_umec.data.synthetic_camera import Camera
from vos_umec.data.synthetic_compose import Actor, compose
from vos_umec.data.synthetic_motion import Motion
from vos_umec.data.synthetic_objects import Body
from vos_umec.data.synthetic_paths import drift, walk
from vos_umec.errors import ConfigError

SMALLEST_SHARE = 0.01  # of the first frame that each labelled object must show
_UNHIDDEN = 0.6  # of what is in the frame of an object
_ATTEMPTS = 200


@dataclass(frozen=True)
class Scene:
    """A synthetic video, ready to be drawn.

    Args:
        size: (H, W).
        frames: T.
        camera: Background, light and sensor.
        actors: Back to front; labelled objects, distractors and occluders.
        seed: Of the sensor's noise.

    Example:
        >>> scene = Scene.sample([0, 1], size=(48, 80), frames=2, objects=(1, 1))
        >>> frame, ids = next(iter(scene))
        >>> frame.shape, ids.shape, np.unique(ids).tolist()
        ((48, 80, 3), (48, 80), [0, 1])
    """

    size: tuple[int, int]
    frames: int
    camera: Camera
    actors: tuple[Actor, ...]
    seed: int

    @classmethod
    def sample(cls, seed: list[int], size: tuple[int, int], frames: int, objects: tuple[int, int]) -> "Scene":
        """A random scene in whose first frame every labelled object shows at least 1 % of the area.

        Args:
            seed: Entropy; other lists give independent scenes.
            size: (H, W), at least 32 each.
            frames: T.
            objects: Fewest and most labelled objects.

        Returns:
            The scene; its labels are 1 to K.

        Raises:
            ConfigError: So many objects that they hide each other in every attempt to place them.

        Example:
            >>> scene = Scene.sample([5], size=(48, 80), frames=2, objects=(2, 2))
            >>> sorted({actor.label for actor in scene.actors} - {0})
            [1, 2]
        """
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        height = size[0]
        mood = np.log(0.38) + rng.normal(0, 0.15) + rng.normal(0, 0.08, 3)  # the middle color, log RGB
        camera = Camera.sample(rng, size, frames, mood)
        count = int(rng.integers(objects[0], objects[1] + 1))
        radii = rng.uniform(0.16, 0.28, count) * height
        cast = [(i + 1, Body.sample(rng, frames, mood, radius), radius) for i, radius in enumerate(radii)]
        if rng.random() < 0.5:  # a distractor: an unlabelled object that resembles a labelled one
            cast.append((0, cast[0][1].twin(rng, frames), radii[0] * rng.uniform(0.8, 1.1)))
        cast = [cast[i] for i in rng.permutation(len(cast))]
        plant = Body.occluder(rng, frames, mood, height / 1.5) if rng.random() < 0.6 else None
        for _ in range(_ATTEMPTS):
            actors: list[Actor] = []
            for label, body, radius in cast:
                motion = _wander(rng, size, camera, radius, [other.motion.centre[0] for other in actors])
                actors.append(Actor(body, motion, label, shadow=rng.uniform(0, 0.4)))
            if plant is not None:
                actors.append(Actor(plant, _foreground(rng, size, camera), label=0))
            if _all_show(actors, size):
                return cls(size, frames, camera, tuple(actors), int(rng.integers(2**32)))
        raise ConfigError(
            f"{count} objects did not fit into a frame of {size[0]} x {size[1]} in {_ATTEMPTS} attempts, each "
            f"to show {SMALLEST_SHARE:.0%} of it: ask for fewer objects"
        )

    def draw(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """One frame and its exact mask.

        Args:
            t: Frame, 0 to T - 1.

        Returns:
            (H, W, 3) uint8 RGB, and ids (H, W) uint8.

        Example:
            >>> Scene.sample([0], size=(32, 48), frames=2, objects=(1, 1)).draw(1)[0].dtype
            dtype('uint8')
        """
        picture, ids = compose(self.camera.view(t, self.size), self.actors, t)
        return self.camera.expose(picture, t, self.seed + t), ids.numpy()

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames with their masks, in order."""
        return (self.draw(t) for t in range(self.frames))


def _all_show(actors: list[Actor], size: tuple[int, int]) -> bool:
    """Whether every labelled object shows enough of itself in the first frame, alone and among the others."""
    _, ids = compose(torch.zeros(3, *size), actors, 0)
    for actor in actors:
        if actor.label > 0:
            _, alone = compose(torch.zeros(3, *size), [actor], 0)
            visible, whole = (ids == actor.label).sum(), (alone == actor.label).sum()
            if visible < SMALLEST_SHARE * ids.numel() or visible < _UNHIDDEN * whole:
                return False
    return True


def _wander(
    rng: np.random.Generator, size: tuple[int, int], camera: Camera, radius: float, taken: list[np.ndarray]
) -> Motion:
    """The motion of an object that starts apart from the places taken, at a pace of its own."""
    height, width = size
    places = rng.uniform(0.2, 0.8, (4, 2)) * (width, height)
    apart = [min((np.hypot(*(place - other)) for other in taken), default=0.0) for place in places]
    pace = height * rng.uniform(0.01, 0.15)
    start = places[int(np.argmax(apart))]
    path = walk(rng, len(camera.views), start, (width, height), (0.5 * pace, 1.5 * pace))
    return Motion.sample(rng, len(camera.views), path + camera.shake, radius)


def _foreground(rng: np.random.Generator, size: tuple[int, int], camera: Camera) -> Motion:
    """A plant or bar near the camera: it sweeps across when the camera pans, and sways a little."""
    height, width = size
    frames = len(camera.views)
    sweep = -camera.views[:, :2, 2] * height * rng.uniform(1.2, 1.8)
    path = sweep - sweep[0] + (width * rng.uniform(0.1, 0.9), height * rng.uniform(0.9, 1.1))
    path = path + drift(rng, frames, -0.02, 0.02, channels=2) * height + camera.shake
    return Motion.sample(rng, frames, path, height / 1.5 * rng.uniform(0.6, 1.2), lively=0.25)
