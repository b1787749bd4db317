"""Reading references through a window around each query cell, in plain matrix products."""

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 8
"""Side of the query tiles, in cells: at radius 6 a product makes 2.4 scores for each that is in a window."""


def window_read_out(keys_q: Tensor, keys_r: Tensor, values: Tensor, radius: int, tau: float = 0.05) -> Tensor:
    """A^T V_r as in `affinity`, but each query cell sees reference cells at most `radius` rows and columns away.

    The query is cut into tiles; a tile's cells are multiplied with all cells that any of them sees, and what lies
    outside a cell's own window or outside the frame is left out of its softmax, which runs over all N references
    jointly. The scores follow autocast; the softmax and what is read out are fp32.

    Args:
        keys_q: Keys of the query (B, D, h, w).
        keys_r: Keys of the references (B, N, D, h, w).
        values: What the references hold (B, N, C, h, w).
        radius: Reach of the window in cells, 0 or more; it has (2 radius + 1)^2 cells.
        tau: Temperature, above 0.

    Returns:
        The values at the query's cells (B, C, h, w), fp32.

    Example:
        >>> columns = torch.arange(9.0).expand(1, 1, 1, 9, 9)
        >>> out = window_read_out(torch.ones(1, 4, 9, 9), torch.ones(1, 1, 4, 9, 9), columns, radius=1)
        >>> out[0, 0, 0].round(decimals=3).tolist()  # equal keys: the mean of the cells in sight
        [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 7.5]
    """
    B, N, C, h, w = values.shape
    rows, columns = -(-h // TILE), -(-w // TILE)  # of tiles
    below, beside = rows * TILE - h, columns * TILE - w
    seen = TILE + 2 * radius  # cells along a side that some cell of a tile sees

    def around(maps: Tensor) -> Tensor:
        """Maps (B, N, C, h, w) to what each tile sees (B, tiles, C, N*seen^2)."""
        padded = F.pad(maps, (radius, radius + beside, radius, radius + below))
        tiles = padded.unfold(3, seen, TILE).unfold(4, seen, TILE)  # (B, N, C, rows, columns, seen, seen)
        return tiles.permute(0, 3, 4, 2, 1, 5, 6).flatten(4).flatten(1, 2)

    q = F.pad(keys_q / tau, (0, beside, 0, below)).unfold(2, TILE, TILE).unfold(3, TILE, TILE)
    q = q.permute(0, 2, 3, 4, 5, 1).flatten(3, 4).flatten(1, 2)  # (B, tiles, TILE^2, D)
    scores = q @ around(keys_r)  # (B, tiles, TILE^2, N*seen^2)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).unflatten(-1, (N, seen**2))
    in_frame = around(torch.ones(1, 1, 1, h, w, device=scores.device)) > 0  # (1, tiles, 1, seen^2)
    visible = in_frame & _in_window(radius, scores.device)  # (1, tiles, TILE^2, seen^2)
    # Finite, for padding may see nothing.
    scores = scores.masked_fill(~visible.unsqueeze(3), torch.finfo(scores.dtype).min)
    A = scores.flatten(-2).softmax(dim=-1)
    with torch.autocast(A.device.type, enabled=False):
        out = torch.einsum("btqr,btcr->btqc", A, around(values.to(A.dtype)))  # (B, tiles, TILE^2, C)
    out = out.view(B, rows, columns, TILE, TILE, C).permute(0, 5, 1, 3, 2, 4)
    return out.reshape(B, C, rows * TILE, columns * TILE)[..., :h, :w]


def _in_window(radius: int, device: torch.device) -> Tensor:
    """Which of the cells around a tile lie in the window of each of its cells (TILE^2, seen^2) bool."""
    inner = torch.arange(TILE, device=device)[:, None] + radius
    near = (inner - torch.arange(TILE + 2 * radius, device=device)).abs() <= radius  # (TILE, seen) along one axis
    return (near[:, None, :, None] & near[None, :, None, :]).flatten(2).flatten(0, 1)
