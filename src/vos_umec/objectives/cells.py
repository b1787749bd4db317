"""Choosing cells of a feature grid, and reading maps there."""

import torch
from torch import Tensor


def random_cells(valid: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Draw cells of each clip without replacement, valid ones first.

    Args:
        valid: (B, h, w) bool, cells that may be drawn.
        count: Cells a clip; all h*w when there are fewer.

    Returns:
        Flat index y * w + x of each cell (B, S), and (B, S) bool: False for cells drawn although not valid,
        because the clip has too few.

    Example:
        >>> import torch
        >>> cells, ok = random_cells(torch.tensor([[[True, False], [True, False]]]), 3)
        >>> sorted(cells[ok].tolist()), ok.tolist()
        ([0, 2], [[True, True, False]])
    """
    flat = valid.flatten(1)
    order = torch.rand(flat.shape, device=flat.device) + flat  # valid cells lie in [1, 2), the others below
    cells = order.topk(min(count, flat.shape[1]), dim=1).indices  # (B, S)
    return cells, flat.gather(1, cells)


def jittered_grid(batch: int, grid: tuple[int, int], side: int, device: torch.device | None = None) -> Tensor:
    """Lay a regular lattice of cells over each clip's grid, moved by one random offset a clip.

    Args:
        batch: B.
        grid: (h, w) of the feature map.
        side: Lattice points along each side; fewer where the grid is smaller.
        device: Where the indices are made.

    Returns:
        Flat index y * w + x of each lattice point (B, S).

    Example:
        >>> import torch
        >>> cells = jittered_grid(1, (8, 8), side=2)
        >>> (cells - cells[:, :1]).tolist()
        [[0, 4, 32, 36]]
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
    """Read a map at chosen cells.

    Args:
        maps: (B, D, h, w).
        cells: Flat indices (B, S).

    Returns:
        (B, S, D).

    Example:
        >>> import torch
        >>> read_cells(torch.arange(4.0).view(1, 1, 2, 2), torch.tensor([[3, 1]])).flatten().tolist()
        [3.0, 1.0]
    """
    flat = maps.flatten(2).transpose(1, 2)  # (B, h*w, D)
    return flat.gather(1, cells[:, :, None].expand(-1, -1, flat.shape[2]))
