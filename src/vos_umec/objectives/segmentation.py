"""L_seg, the loss of mask-embedded segmentation (UMEC section 2, arXiv 2303.10100)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.distributed import count_per_process, sum_over_processes
from vos_umec.errors import ConfigError
from vos_umec.matching.readout import MemoryMasks, Readout
from vos_umec.models.umec import UMEC
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.propagation import ALL_CELLS, propagate_masks


@dataclass(frozen=True)
class SegmentationObjective:
    """L_seg of a batch of clips: some segments of each clip are propagated, and compared with the pseudo masks.

    The clip's first frame is the first reference. Query frames are drawn from the later ones and segmented in
    their order; each may serve as a reference for the next. The loss is taken after each round of refinement. Round
    0, the coarse mask of label propagation, learns through the rounds that refine it. It has a loss of its own only
    where there are no rounds. The paper leaves this open.

    Attributes:
        max_objects: K, the most segments of a clip that are drawn as objects.
        queries: Query frames of a clip.
        references: N at most: the first frame and the query frames before; so never more than `queries`.
        rounds: R, refinement rounds that are unrolled; with 0, L_seg teaches label propagation alone.
        own_mask_probability: Probability that a query frame serves as a reference with the network's own mask,
            without gradient, rather than with its pseudo mask (scheduled sampling).
        memory_masks: What its own mask is, as in inference: "final", "coarse" or "coarse_vote", see
            `propagate_masks`. Of several, each step draws one.
        drift: Frames at most, between the first one and the queries, through which the network propagates its own
            masks without gradient; their number is uniform from 0. Clips need 1 + drift + queries frames.
        fade: The most that a mask loses in smooth patches each time it is remembered, the first frame's apart, as a
            fraction; see `propagate_masks`.
        iou_weight: Weight of 1 - IoU beside the cross-entropy.
        readout: How references are read; None for all of their cells, as in the paper (eq. 4).

    Raises:
        ConfigError: If a number is out of range.
    """

    max_objects: int = 3
    queries: int = 3
    references: int = 3
    rounds: int = 2
    own_mask_probability: float = 0.5
    iou_weight: float = 0.0
    readout: Readout | None = None
    memory_masks: Sequence[MemoryMasks] = ("final",)
    drift: int = 0
    fade: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        least = {"max_objects": self.max_objects, "queries": self.queries, "references": self.references}
        if wrong := {name: value for name, value in least.items() if value < 1}:
            raise ConfigError(f"segmentation has {wrong}; expected 1 or more of each")
        if self.rounds < 0 or not 0 <= self.own_mask_probability <= 1:
            raise ConfigError(
                f"segmentation has rounds {self.rounds} and own_mask_probability {self.own_mask_probability}; "
                "expected 0 or more rounds and a probability"
            )
        if self.drift < 0:
            raise ConfigError(f"segmentation has drift {self.drift}; expected 0 frames or more")
        if not 0 <= self.fade <= 1:
            raise ConfigError(f"segmentation has fade {self.fade}; expected a fraction, 0 for no fading")
        known = get_args(MemoryMasks)
        if isinstance(self.memory_masks, str) or not self.memory_masks or set(self.memory_masks) - set(known):
            raise ConfigError(
                f"segmentation has memory_masks {self.memory_masks!r}; expected a list of {', '.join(known)}"
            )
        if self.readout is not None:  # a mapping, where it comes from YAML or a checkpoint
            object.__setattr__(self, "readout", Readout.of(self.readout))

    def __call__(self, network: UMEC, clip: EncodedClip, segments: Tensor) -> Tensor | None:
        """The loss of a batch.

        Args:
            network: The network.
            clip: Encoded clips.
            segments: Pseudo masks (B, T, H, W) uint8, 255 where nothing is known.

        Returns:
            The mean over query frames and rounds of `segmentation_loss`, or None where no clip of any process has a
            segment of a size fit to be an object.
        """
        T, device = segments.shape[1], segments.device
        masks, valid = choose_targets(segments, self.max_objects)  # (B, T, K, H, W), (B, K)
        fits = valid.any(dim=1)
        here, draw = fits.sum(), torch.randint(2**31, (), device=device)
        # The host waits for the device here, and nowhere else in L_seg: what runs depends on the numbers. All
        # processes draw drift and memory together, for each awaits the batch norms of the others.
        fitting, of_all, draw_of_all = torch.stack((here, *sum_over_processes(torch.stack((here, draw))))).tolist()
        if of_all == 0:
            return None
        draw_of_all, kept = divmod(draw_of_all, len(self.memory_masks))
        drift = draw_of_all % (max(0, min(self.drift, T - 1 - self.queries)) + 1)
        later = torch.rand(T - 1, device=device).argsort()[: drift + self.queries].sort().values + 1
        # Clips with an object. A process that has none takes part with a loss of 0: others await its batch norms.
        rows = fits.int().argsort(descending=True, stable=True)[: max(fitting, 1)]  # (B',)
        chosen = rows[:, None] * T + F.pad(later, (1, 0))  # (B', T') frames, from the first of the batch on
        masks, valid = masks.flatten(0, 1)[chosen], valid[rows]  # (B', T', K, H, W), (B', K)
        known = segments.flatten(0, 1)[chosen] != IGNORE  # (B', T', H, W)
        outputs = propagate_masks(
            network,
            clip.frames.flatten(0, 1)[chosen],
            clip.features_of(chosen.flatten()),
            masks,
            valid,
            self.rounds,
            self.references,
            self.own_mask_probability,
            self.readout or ALL_CELLS,
            self.memory_masks[kept],
            drift,
            self.fade,
        )
        losses = [
            segmentation_loss(logits, masks[:, q], valid, known[:, q], self.iou_weight)
            for q, rounds in enumerate(outputs, start=1 + drift)
            for logits in rounds[1:] or rounds
        ]
        return torch.stack(losses).mean()


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
        intact, when there is none. On several processes, which call this together, the sums of each are divided by
        the mean count of all: the loss that DDP averages is that of one process with all clips.
    """
    exists = valid[:, :, None, None]  # (B, K, 1, 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    objects = logits[:, 1:].masked_fill(~exists, torch.finfo(logits.dtype).min)
    claimed = (masks > 0.5) & exists  # (B, K, H, W)
    ids = torch.arange(1, claimed.shape[1] + 1, device=claimed.device)[:, None, None]
    target = (claimed * ids).sum(dim=1, keepdim=True)  # (B, 1, H, W)
    logits_of_all = torch.cat([logits[:, :1], objects], dim=1)  # (B, K+1, H, W)
    # Not by F.cross_entropy, which has no deterministic kernel for maps on CUDA.
    loss = -F.log_softmax(logits_of_all, dim=1).gather(1, target)[:, 0]  # (B, H, W)
    counted = known & valid.any(dim=1)[:, None, None]
    loss = torch.where(counted, loss, 0.0).sum() / count_per_process(counted.sum())
    if iou_weight:
        p = logits_of_all.softmax(dim=1)[:, 1:] * known[:, None]  # (B, K, H, W)
        y = claimed * known[:, None]
        inter, total = (p * y).sum(dim=(2, 3)), (p + y).sum(dim=(2, 3))  # (B, K)
        misses = 1 - (inter + 1) / (total - inter + 1)  # 1 pixel on both sides: nothing found of nothing is right
        loss = loss + iou_weight * torch.where(valid, misses, 0.0).sum() / count_per_process(valid.sum())
    return loss


def choose_targets(
    segments: Tensor,
    max_objects: int = 3,
    area: tuple[float, float] = (0.01, 0.5),
) -> tuple[Tensor, Tensor]:
    """Draw 1 to `max_objects` segments of each clip that are neither tiny nor huge in its first frame.

    The number K is one draw for the batch, uniform over 1 to `max_objects`; a clip has fewer where its first frame
    offers no more. All else is background.

    Args:
        segments: Pseudo segments (B, T, H, W) uint8, 255 unknown.
        max_objects: The most objects of a clip.
        area: Smallest and largest fraction of the first frame's pixels, both included.

    Returns:
        Masks (B, T, K, H, W) float, 0 or 1, and (B, K) bool, which objects exist: a clip fills its first
        places, and one without a fitting segment has none.

    Example:
        >>> import torch
        >>> segments = torch.tensor([[[[0, 0, 0, 1]]]], dtype=torch.uint8)
        >>> masks, valid = choose_targets(segments, max_objects=1)
        >>> valid.tolist(), masks[0, 0].tolist()
        ([[True]], [[[0.0, 0.0, 0.0, 1.0]]])
    """
    B = segments.shape[0]
    device = segments.device
    first = segments[:, 0].flatten(1).long()  # (B, H*W)
    pixels = torch.zeros(B, IGNORE + 1, device=device).scatter_add_(1, first, torch.ones_like(first).float())
    fraction = pixels / first.shape[1]
    fits = (fraction >= area[0]) & (fraction <= area[1])  # (B, 256)
    fits[:, IGNORE] = False

    order = torch.rand(B, IGNORE + 1, device=device) + fits
    number = int(torch.randint(1, max_objects + 1, ()))
    ids = order.topk(number, dim=1).indices  # (B, K), those that fit first
    valid = fits.gather(1, ids)  # (B, K)
    masks = (segments[:, :, None] == ids[:, None, :, None, None]) & valid[:, None, :, None, None]
    return masks.float(), valid
