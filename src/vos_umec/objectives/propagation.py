"""Masks propagated through a clip as in training, with gradients (UMEC section 2)."""

import torch
from torch import Tensor

from vos_umec.matching.readout import Readout
from vos_umec.models.encoder import Features
from vos_umec.models.layers import weights_prepared_once
from vos_umec.models.umec import UMEC

ALL_CELLS = Readout(top_k=None)


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
) -> list[list[Tensor]]:
    """Segment frames 1..T-1 of each clip, one after another, from the masks of frame 0.

    Frame 0 is always a reference, the permanent one. The nearest earlier frames join it with their pseudo mask or,
    with probability `own_mask_probability`, with the network's own detached prediction (scheduled sampling).

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

    Returns:
        For each query frame 1..T-1 the logits of every round, (B, K+1, H, W) each.
    """
    T = frames.shape[1]
    by_frame = _by_frame(features, T)
    keys = [frame.key for frame in by_frame]  # T times (B, D, h, w)
    K = masks.shape[2]

    def reference(t: int, mask: Tensor) -> Tensor:
        """Values of frame t as a reference: mask and mask embedding of every object (B, K*(1+Dv), h, w)."""
        Y, V = network.to_grid(mask), network.embed(frames[:, t], by_frame[t], mask).flatten(1, 2)
        return torch.cat((Y, V.to(Y.dtype)), dim=1)

    memory = [reference(0, masks[:, 0])]
    outputs = []
    for t in range(1, T):
        chosen = [0, *range(max(1, t - references + 1), t)]
        keys_r = torch.stack([keys[r] for r in chosen], dim=1)
        values = torch.stack([memory[r] for r in chosen], dim=1)
        read = readout.read_clips(keys_r, keys[t], values, network.tau)  # (B, K*(1+Dv), h, w)
        Ybar_q, V_q = read[:, :K], read[:, K:].unflatten(1, (K, -1))  # (B, K, h, w), (B, K, Dv, h, w)
        logits = network.decode(frames[:, t], by_frame[t], V_q, Ybar_q, rounds, valid)
        outputs.append(logits)
        if t < T - 1:
            own = bool(torch.rand(()) < own_mask_probability)
            mask = logits[-1].detach().softmax(dim=1)[:, 1:] if own else masks[:, t]  # (B, K, H, W)
            memory.append(reference(t, mask))
    return outputs


def _by_frame(features: Features, T: int) -> list[Features]:
    """Features of (B*T, ...) as T times (B, ...); by unbind, for the gradient of an index is slow to add up."""
    key, trunk, *skips = (
        x.unflatten(0, (-1, T)).unbind(1) for x in (features.key, features.trunk, *features.skips)
    )
    return [Features(key[t], trunk[t], tuple(skip[t] for skip in skips)) for t in range(T)]
