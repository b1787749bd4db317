"""Pose and deformation of a synthetic object over the frames."""

from dataclasses import dataclass

import numpy as np

from vos_umec.data.synthetic_paths import drift


@dataclass(frozen=True)
class Motion:
    """Pose and deformation of one object over T frames.

    The deformation is a chain of shears, so it is a bijection of the plane whatever its strength: every pixel
    of the object comes from one place of its texture, and keeps to it.

    Args:
        centre: (T, 2) x and y of the object's origin, pixels.
        angle: (T,) rotation, radians.
        scale: (T,) pixels per object unit.
        stretch: (T,) the object's x axis is longer by this factor, the y axis shorter by it.
        bend: (T,) y shifts by ``bend * cos(1.2 x)``.
        ripple: (T, 2) amplitudes of a wave along y running in x, and one along x running in y.
        phase: (T, 2) phases of the two waves, radians.
        frequency: (2,) of the two waves, radians per object unit.

    Example:
        >>> Motion.still(3, centre=(8.0, 5.0), scale=2.0).centre.shape
        (3, 2)
    """

    centre: np.ndarray
    angle: np.ndarray
    scale: np.ndarray
    stretch: np.ndarray
    bend: np.ndarray
    ripple: np.ndarray
    phase: np.ndarray
    frequency: np.ndarray

    def widened(self, t: int, reach: float) -> float:
        """The radius about the centre that holds the deformed object.

        Args:
            t: Frame.
            reach: Radius that holds the object at rest, object units.

        Returns:
            Radius in object units.

        Example:
            >>> Motion.still(1, (0.0, 0.0), 5.0).widened(0, 1.5)
            1.5
        """
        shears = abs(self.bend[t]) + np.abs(self.ripple[t]).sum()
        return float((reach + shears) * max(self.stretch[t], 1 / self.stretch[t]))

    @classmethod
    def still(cls, frames: int, centre: tuple[float, float], scale: float) -> "Motion":
        """An object that neither moves nor deforms.

        Args:
            frames: T.
            centre: x and y, pixels.
            scale: Pixels per object unit.

        Returns:
            The motion.

        Example:
            >>> Motion.still(2, (0.0, 0.0), 1.0).bend.tolist()
            [0.0, 0.0]
        """
        zero, zeros = np.zeros(frames), np.zeros((frames, 2))
        return cls(
            zeros + centre, zero, zero + scale, zero + 1, zero, ripple=zeros, phase=zeros, frequency=np.ones(2)
        )

    @classmethod
    def sample(
        cls, rng: np.random.Generator, frames: int, path: np.ndarray, scale: float, lively: float = 1.0
    ) -> "Motion":
        """An object that follows a path while it turns, grows, shrinks and deforms.

        Args:
            rng: Source of randomness.
            frames: T.
            path: (T, 2) x and y, pixels.
            scale: Pixels per object unit, about which the size varies by a quarter.
            lively: Strength of turning and deforming, 1 for objects, less for plants.

        Returns:
            The motion.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> Motion.sample(rng, 4, np.zeros((4, 2)), 20.0).ripple.shape
            (4, 2)
        """
        turn = lively * rng.uniform(0.15, 0.9)
        speed = rng.uniform(0.08, 0.3, 2) * rng.choice([-1, 1], 2)  # radians per frame
        return cls(
            centre=path,
            angle=rng.uniform(0, 2 * np.pi) * (lively >= 1) + drift(rng, frames, -turn, turn)[:, 0],
            scale=scale * np.exp(drift(rng, frames, -0.25, 0.25, every=15)[:, 0] * lively),
            stretch=np.exp(drift(rng, frames, -0.15, 0.15)[:, 0] * lively),
            bend=drift(rng, frames, -0.25, 0.25)[:, 0] * lively,
            ripple=drift(rng, frames, 0.0, 0.1, channels=2) * lively,
            phase=rng.uniform(0, 2 * np.pi, 2) + speed * np.arange(frames)[:, None],
            frequency=rng.uniform(1.5, 4.0, 2),
        )
