"""L_seg, the loss of mask-embedded segmentation (UMEC section 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.constants import IGNORE


def segmentation_loss(
    logits: Tensor, masks: Tensor, valid: Tensor, known: Tensor, iou_weight: float = 0.0
) -> Tensor:
    """Cross-entropy of the aggregated map against the pseudo mask, over the pixels that have one.

    Args:
        logits: Aggregated logits (B, K+1, H, W), channel 0 the background; -inf is fine for absent objects.
        masks: Pseudo masks (B, K, H, W), one object a pixel at most.
        valid: (B, K) bool, which objects exist; the channels of others take no part.
        known: (B, H, W) bool, pixels with a pseudo label.
        iou_weight: Weight of 1 - IoU, soft and of each object by itself, which sees a small object as much as a
            large one; 0 leaves the cross-entropy of the paper alone.

    Returns:
        The mean over known pixels of clips with an object, and over objects for the IoU; 0, with its graph
        intact, when there is none.

    Example:
        >>> import torch
        >>> logits = torch.tensor([0.0, 0.0, 50.0]).view(1, 3, 1, 1)
        >>> masks, valid = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([[True, False]])
        >>> round(float(segmentation_loss(logits, masks, valid, torch.ones(1, 1, 1).bool())), 4)  # log 2
        0.6931
    """
    exists = valid[:, :, None, None]  # (B, K, 1, 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    objects = logits[:, 1:].masked_fill(~exists, torch.finfo(logits.dtype).min)
    claimed = (masks > 0.5) & exists  # (B, K, H, W)
    ids = torch.arange(1, claimed.shape[1] + 1, device=claimed.device)[:, None, None]
    target = (claimed * ids).sum(dim=1)  # (B, H, W)
    logits_of_all = torch.cat([logits[:, :1], objects], dim=1)  # (B, K+1, H, W)
    loss = F.cross_entropy(logits_of_all, target, reduction="none")  # (B, H, W)
    counted = known & valid.any(dim=1)[:, None, None]
    loss = torch.where(counted, loss, 0.0).sum() / counted.sum().clamp(min=1)
    if iou_weight:
        p = logits_of_all.softmax(dim=1)[:, 1:] * known[:, None]  # (B, K, H, W)
        y = claimed * known[:, None]
        inter, total = (p * y).sum(dim=(2, 3)), (p + y).sum(dim=(2, 3))  # (B, K)
        misses = 1 - (inter + 1) / (total - inter + 1)  # 1 pixel on both sides: nothing found of nothing is right
        loss = loss + iou_weight * torch.where(valid, misses, 0.0).sum() / valid.sum().clamp(min=1)
    return loss


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
    pixels = torch.zeros(B, IGNORE + 1, device=device).scatter_add_(1, first, torch.ones_like(first).float())
    share = pixels / first.shape[1]
    fits = (share >= area[0]) & (share <= area[1])  # (B, 256)
    fits[:, IGNORE] = False

    order = torch.rand(B, IGNORE + 1, device=device) + fits
    ids = order.topk(max_objects, dim=1).indices  # (B, K), those that fit first
    wanted = torch.randint(1, max_objects + 1, (B, 1), device=device)
    valid = fits.gather(1, ids) & (torch.arange(max_objects, device=device) < wanted)  # (B, K)
    masks = (segments[:, :, None] == ids[:, None, :, None, None]) & valid[:, None, :, None, None]
    return masks.float(), valid
