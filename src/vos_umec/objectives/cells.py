"""Choosing cells of a feature grid, and reading maps there. A cell is a flat index y * w + x."""

import torch
from torch import Tensor


def random_cells(valid: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Draw cells of each clip without replacement, valid ones first.

    Args:
        valid: (B, h, w) bool, cells that may be drawn.
        count: Number of cells a clip; all h*w where there are fewer.

    Returns:
        Cells (B, S), and (B, S) bool: False for cells that are not valid, drawn where a clip has too few.
    """
    flat = valid.flatten(1)
    order = torch.rand(flat.shape, device=flat.device) + flat  # valid cells lie in [1, 2), the others below
    cells = order.topk(min(count, flat.shape[1]), dim=1).indices  # (B, S)
    return cells, flat.gather(1, cells)


def jittered_grid(batch: int, grid: tuple[int, int], side: int, device: torch.device | None = None) -> Tensor:
    """Lay a regular lattice of cells over each clip's grid, shifted by one random offset a clip.

    Args:
        batch: B.
        grid: (h, w) of the feature map.
        side: Lattice points along each side; fewer where the grid is smaller.
        device: Where the cells are made.

    Returns:
        Cells (B, S), row by row.
    """
    lines = []
    for n in grid:
        points = min(side, n)
        jitter = torch.rand(batch, 1, device=device)
        step = n / points
        lines.append(((torch.arange(points, device=device) + jitter) * step).long().clamp(max=n - 1))
    rows, columns = lines  # (B, side) each
    return (rows[:, :, None] * grid[1] + columns[:, None, :]).flatten(1)


def read_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """Read maps (B, D, h, w) at cells (B, S); gives (B, S, D)."""
    flat = maps.flatten(2).transpose(1, 2)  # (B, h*w, D)
    return flat.gather(1, cells[:, :, None].expand(-1, -1, flat.shape[2]))
