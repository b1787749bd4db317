"""Smooth random paths for the objects, the camera and the light of a synthetic video."""

import numpy as np


def smooth_curve(knots: np.ndarray, frames: int) -> np.ndarray:
    """A curve through knots spread evenly over the frames, with a continuous velocity.

    Args:
        knots: (n, C) values, n >= 2; the first is met at frame 0 and the last at the last frame.
        frames: T, at least 1.

    Returns:
        (T, C) float64. Between two knots it may swing a little beyond both.

    Source:
        The uniform Catmull-Rom spline, with the end knots repeated.

    Example:
        >>> smooth_curve(np.array([[0.0], [1.0], [2.0]]), 5)[:, 0].round(3).tolist()
        [0.0, 0.438, 1.0, 1.562, 2.0]
    """
    padded = np.concatenate([knots[:1], knots, knots[-1:]])
    at = np.linspace(0, len(knots) - 1, frames)
    left = np.minimum(at.astype(int), len(knots) - 2)
    u = (at - left)[:, None]  # (T, 1) how far between the two knots
    p0, p1, p2, p3 = (padded[left + i] for i in range(4))
    curve: np.ndarray = 0.5 * (
        2 * p1 + (p2 - p0) * u + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2 + (3 * p1 - p0 - 3 * p2 + p3) * u**3
    )
    return curve


def drift(
    rng: np.random.Generator, frames: int, low: float, high: float, every: int = 12, channels: int = 1
) -> np.ndarray:
    """Values that wander smoothly between two bounds.

    Args:
        rng: Source of randomness.
        frames: T.
        low: Lower bound of the knots.
        high: Upper bound of the knots.
        every: Frames from one knot to the next.
        channels: C, independent values.

    Returns:
        (T, C) float64.

    Example:
        >>> values = drift(np.random.default_rng(0), 40, -1.0, 1.0)
        >>> values.shape, bool(abs(values).max() < 1.3)
        ((40, 1), True)
    """
    return smooth_curve(rng.uniform(low, high, (2 + frames // every, channels)), frames)


def walk(
    rng: np.random.Generator,
    frames: int,
    start: np.ndarray,
    extent: tuple[float, float],
    step: tuple[float, float],
    every: int = 10,
) -> np.ndarray:
    """A walk over the frame: it keeps its heading, turns a little, and at times turns back.

    Args:
        rng: Source of randomness.
        frames: T.
        start: (2,) x and y of the first frame, pixels.
        extent: (W, H); the walk turns towards the middle where a step would end within a twentieth of its
            border, so objects leave in part and come back.
        step: Shortest and longest way between two knots, pixels.
        every: Frames from one knot to the next.

    Returns:
        (T, 2) x and y in pixels.

    Example:
        >>> path = walk(np.random.default_rng(0), 40, np.array([10.0, 10.0]), (320, 192), (30, 60))
        >>> path.shape, path[0].tolist()
        ((40, 2), [10.0, 10.0])
    """
    size = np.asarray(extent, dtype=float)
    place = np.asarray(start, dtype=float)
    knots = [place]
    heading = rng.uniform(0, 2 * np.pi)
    for _ in range(1 + frames // every):
        heading += rng.normal(0, 0.5) + (np.pi if rng.random() < 0.2 else 0.0)
        length = rng.uniform(*step)
        for _ in range(2):
            ahead = place + length * np.array([np.cos(heading), np.sin(heading)])
            if (np.abs(ahead / size - 0.5) <= 0.45).all():
                break
            to_middle = size / 2 - place
            heading = np.arctan2(to_middle[1], to_middle[0]) + rng.normal(0, 0.4)
        place = ahead
        knots.append(place)
    return smooth_curve(np.stack(knots), frames)
