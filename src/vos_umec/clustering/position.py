"""The 3D sinusoidal position code p_i of a video's cells (UMEC, space-time clustering)."""

import math

import torch
from torch import Tensor

from vos_umec.errors import ConfigError

LONGEST_PERIOD = 2.0
"""Half a period over the range 0 to 1: the one wave along which farther cells always differ more."""


def position_code_3d(
    T: int,
    h: int,
    w: int,
    dim: int,
    shortest_period: float = 1.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Code of each cell's (t, y, x), of unit norm.

    The channels are split evenly over t, y and x: each axis has J = dim // 6 pairs (sin, cos) whose periods
    fall geometrically from 2 to `shortest_period`, 2 alone where J is 1. A remainder of dim / 6 stays zero.
    y and x are divided by the longer side, so that a cell is as far from its right as from its lower
    neighbour; t is divided by the clip's length. Each coordinate is taken at the middle of its cell.

    Two cells that differ by (dt, dy, dx) are then at the squared distance
    2 / (3 J) * sum over axes and periods P of (1 - cos(2 pi d / P)), which depends on the difference alone.

    Args:
        T: Frames.
        h: Rows of the feature grid.
        w: Columns of the feature grid.
        dim: Channels of the code, at least 6.
        shortest_period: Shortest period, in lengths of the range, in (0, 2]. Waves much shorter than a segment
            take nearly the same share of k-means' objective whatever the segments, and so change nothing.
        device: Where to put the code.

    Returns:
        (T, h, w, dim) float32, unit norm over the last axis.

    Raises:
        ConfigError: If a size or the period is out of range.

    Source:
        The poster's "3D sinusoidal position encoding vector"; its formula is open, METHOD of this package.

    Example:
        >>> p = position_code_3d(4, 6, 8, dim=12)
        >>> tuple(p.shape), torch.allclose(p.norm(dim=-1), torch.ones(4, 6, 8))
        ((4, 6, 8, 12), True)
    """
    if min(T, h, w) < 1:
        raise ConfigError(f"position code of {T} frames of {h} x {w} cells; expected at least one of each")
    if dim < 6:
        raise ConfigError(f"position code of {dim} channels; expected at least 6, a sin and a cos for t, y and x")
    if not 0 < shortest_period <= LONGEST_PERIOD:
        raise ConfigError(f"shortest_period is {shortest_period}; expected above 0 and at most {LONGEST_PERIOD:g}")
    J = dim // 6
    steps = torch.arange(J, dtype=torch.float32, device=device) / max(J - 1, 1)
    periods = LONGEST_PERIOD * (shortest_period / LONGEST_PERIOD) ** steps  # (J,)
    side = max(h, w)
    code = torch.zeros(T, h, w, dim, dtype=torch.float32, device=device)
    for axis, (cells, length) in enumerate(((T, T), (h, side), (w, side))):
        middle = (torch.arange(cells, dtype=torch.float32, device=device) + 0.5) / length  # (cells,) in (0, 1)
        angle = 2 * math.pi * middle[:, None] / periods  # (cells, J)
        waves = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)  # (cells, 2J)
        shape = [1, 1, 1, 2 * J]
        shape[axis] = cells
        code[..., axis * 2 * J : (axis + 1) * 2 * J] = waves.view(shape)
    return code / math.sqrt(3 * J)  # each pair has norm 1, so the 3J pairs have norm sqrt(3J)
