"""Choosing which pseudo segments of a clip play the objects (METHOD section 1)."""

import torch
from torch import Tensor

UNKNOWN = 255  # id of pixels that no pseudo mask speaks of


def choose_targets(
    segments: Tensor,
    max_objects: int = 3,
    area: tuple[float, float] = (0.01, 0.5),
) -> tuple[Tensor, Tensor]:
    """Draw 1 to `max_objects` segments of each clip that are neither tiny nor huge in its first frame.

    The number is uniform over 1 to `max_objects`, cut to what the frame offers; all else is background.

    Args:
        segments: Pseudo segments (B, T, H, W) uint8, 255 unknown.
        max_objects: K, the most objects of a clip.
        area: Smallest and largest share of the first frame's pixels, both included.

    Returns:
        Masks (B, T, K, H, W) float, 0 or 1, and (B, K) bool, which objects exist: a clip fills its first
        places, and one without a fitting segment has none.

    Example:
        >>> import torch
        >>> segments = torch.tensor([[[[0, 0, 0, 1]]]], dtype=torch.uint8)
        >>> masks, valid = choose_targets(segments, max_objects=2)
        >>> valid.tolist(), masks[0, 0].tolist()
        ([[True, False]], [[[0.0, 0.0, 0.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]]])
    """
    B = segments.shape[0]
    device = segments.device
    first = segments[:, 0].flatten(1).long()  # (B, H*W)
    pixels = torch.zeros(B, UNKNOWN + 1, device=device).scatter_add_(1, first, torch.ones_like(first).float())
    share = pixels / first.shape[1]
    fits = (share >= area[0]) & (share <= area[1])  # (B, 256)
    fits[:, UNKNOWN] = False

    order = torch.rand(B, UNKNOWN + 1, device=device) + fits
    ids = order.topk(max_objects, dim=1).indices  # (B, K), those that fit first
    wanted = torch.randint(1, max_objects + 1, (B, 1), device=device)
    valid = fits.gather(1, ids) & (torch.arange(max_objects, device=device) < wanted)  # (B, K)
    masks = (segments[:, :, None] == ids[:, None, :, None, None]) & valid[:, None, :, None, None]
    return masks.float(), valid
