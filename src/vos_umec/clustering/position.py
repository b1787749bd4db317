"""The 3D sinusoidal position code p_i of a video's cells (UMEC eq. 1)."""

import math

import torch
from torch import Tensor

from vos_umec.errors import ConfigError

LONGEST_PERIOD = 2.0
"""In lengths of an axis. Along half a period, cells that are farther apart always differ more."""


def position_code_3d(
    T: int,
    h: int,
    w: int,
    dim: int,
    shortest_period: float = 1.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Encode each cell's (t, y, x) as a vector of unit norm.

    t, y and x each get J = dim // 6 pairs (sin, cos), whose periods fall geometrically from 2 to `shortest_period`
    (2 alone where J is 1); the dim % 6 last channels are 0. Coordinates are those of cell centers: t is divided by
    T, y and x by the longer side, so that a step down counts as much as a step to the right. The squared distance
    of two cells depends on their difference (dt, dy, dx) alone: 2 / (3 J) * sum over axes and periods P of
    (1 - cos(2 pi d / P)).

    The paper names a "3D sinusoidal position encoding vector" without a formula; this one is our choice.

    Args:
        T: Frames.
        h: Rows of the feature grid.
        w: Columns of the feature grid.
        dim: Channels of the code, at least 6.
        shortest_period: Shortest period in lengths of an axis, in (0, 2].
        device: Where to put the code.

    Returns:
        (T, h, w, dim) float32, unit norm over the last axis.

    Raises:
        ConfigError: If a size or the period is out of range.
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
        center = (torch.arange(cells, dtype=torch.float32, device=device) + 0.5) / length  # (cells,) in (0, 1)
        angle = 2 * math.pi * center[:, None] / periods  # (cells, J)
        waves = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)  # (cells, 2J)
        shape = [1, 1, 1, 2 * J]
        shape[axis] = cells
        code[..., axis * 2 * J : (axis + 1) * 2 * J] = waves.view(shape)
    return code / math.sqrt(3 * J)  # each of the 3J pairs has norm 1
