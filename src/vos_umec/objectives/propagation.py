"""Masks propagated through a clip as in training, with gradients (UMEC section 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.matching.readout import MemoryMasks, Readout
from vos_umec.models.encoder import Features
from vos_umec.models.layers import weights_prepared_once
from vos_umec.models.umec import UMEC

ALL_CELLS = Readout(top_k=None)

_FADING, _PATCHES = 0.7, 4
"""The fraction of clips in which masks fade, and how many patches to a side differ in it."""


@weights_prepared_once()
def propagate_masks(
    network: UMEC,
    frames: Tensor,
    features: Features,
    masks: Tensor,
    valid: Tensor,
    rounds: int = 2,
    references: int = 3,
    own_mask_probability: float = 0.5,
    readout: Readout = ALL_CELLS,
    memory_masks: MemoryMasks = "final",
    drift: int = 0,
    fade: float = 0.0,
) -> list[list[Tensor]]:
    """Segment frames 1..T-1 of each clip, one after another, from the masks of frame 0.

    Frame 0 is always a reference, the permanent one. The nearest earlier frames join it with their pseudo mask or,
    with probability `own_mask_probability`, with the network's own detached prediction (scheduled sampling). The
    first `drift` frames are propagated without gradient, on the network's own masks alone: what is learned then
    starts from masks that have drifted, as in inference. With `fade` the masks of later references are weaker in
    smooth patches, as masks are in inference that were carried far; the network learns to make them whole again.

    Args:
        network: The network.
        frames: Normalised frames (B, T, 3, H, W), T >= 2.
        features: E's features of all frames, the T frames of a clip next to each other (B*T, ...).
        masks: Pseudo masks (B, T, K, H, W) in [0, 1]; those of the last frame are not read.
        valid: (B, K) bool, which objects exist.
        rounds: Refinement rounds unrolled for every query.
        references: N at most, 1 or more.
        own_mask_probability: Probability that a later reference holds the network's own prediction.
        readout: How the references are read.
        memory_masks: What the network's own prediction is: "final", the refined masks; "coarse", those before
            refinement; "coarse_vote", coarse ones for the vote and refined ones for V.
        drift: Frames that are propagated without gradient, at most T - 2.
        fade: The most that a mask loses each time it is remembered, as a fraction in [0, 1], in 7 of 10 clips.

    Returns:
        For each of the frames drift+1..T-1 the logits of every round, (B, K+1, H, W) each.
    """
    T, size = frames.shape[1], frames.shape[-2:]
    by_frame = _by_frame(features, T)
    keys = [frame.key for frame in by_frame]  # T times (B, D, h, w)
    votes = [network.to_grid(masks[:, 0])]  # (B, K, h, w)
    values = [network.embed(frames[:, 0], by_frame[0], masks[:, 0])]  # (B, K, Dv, h, w)
    fading = _draw_fading(valid, fade) if fade else None

    def propagate(t: int, rounds: int) -> tuple[Tensor, list[Tensor]]:
        """Ybar_q (B, K, h, w) of frame t, and the logits of its rounds."""
        near = [0, *range(max(1, t - references + 1), t)]
        keys_r, Y_r, V_r = (torch.stack([of[r] for r in near], dim=1) for of in (keys, votes, values))
        read = readout.read_clips(keys_r, keys[t], Y_r, V_r, network.tau)
        logits = network.decode(frames[:, t], by_frame[t], read.values, read.masks, rounds, valid, read.evidence)
        return read.masks.detach(), logits

    def remember(t: int, coarse: Tensor, logits: list[Tensor]) -> None:
        final = logits[-1].detach().softmax(dim=1)[:, 1:]  # (B, K, H, W)
        vote = network.to_grid(final) if memory_masks == "final" else coarse
        if memory_masks == "coarse":
            final = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        votes.append(_faded(vote, fading))
        values.append(network.embed(frames[:, t], by_frame[t], _faded(final, fading)))

    with torch.no_grad():
        for t in range(1, drift + 1):
            remember(t, *propagate(t, rounds if memory_masks != "coarse" else 0))
    if drift:
        torch.clear_autocast_cache()  # casts of weights that were made without gradients
    outputs = []
    for t in range(drift + 1, T):
        coarse, logits = propagate(t, rounds)
        outputs.append(logits)
        if t == T - 1:
            break
        if torch.rand(()) < own_mask_probability:
            remember(t, coarse, logits)
        else:
            Y_t = _faded(masks[:, t], fading)
            votes.append(network.to_grid(Y_t))
            values.append(network.embed(frames[:, t], by_frame[t], Y_t))
    return outputs


def _draw_fading(valid: Tensor, fade: float) -> tuple[Tensor, Tensor]:
    """How much the masks of objects (B, K) lose at most (B, K, 1, 1), and where: patches in [0, 1] (B, K, 4, 4)."""
    B, K = valid.shape
    device = valid.device
    depth = fade * torch.rand(B, K, 1, 1, device=device) * (torch.rand(B, 1, 1, 1, device=device) < _FADING)
    return depth, torch.rand(B, K, _PATCHES, _PATCHES, device=device)


def _faded(masks: Tensor, fading: tuple[Tensor, Tensor] | None) -> Tensor:
    """What is left of masks (B, K, H, W) after fading; None for all."""
    if fading is None:
        return masks
    depth, patches = fading
    smooth = F.interpolate(patches, size=masks.shape[-2:], mode="bicubic", align_corners=False)
    return masks * (1 - depth * smooth.clamp(0, 1))  # bicubic values overshoot


def _by_frame(features: Features, T: int) -> list[Features]:
    """Features of (B*T, ...) as T times (B, ...); by unbind, for the gradient of an index is slow to add up."""
    key, trunk, *skips = (
        x.unflatten(0, (-1, T)).unbind(1) for x in (features.key, features.trunk, *features.skips)
    )
    return [Features(key[t], trunk[t], tuple(skip[t] for skip in skips)) for t in range(T)]
