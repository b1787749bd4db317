"""Carrying masks through a clip as in training, gradients included (UMEC section 2)."""

import torch
from torch import Tensor

from vos_umec.models.affinity import affinity, read_out
from vos_umec.models.encoder import Features
from vos_umec.models.umec import UMEC


def carry_masks(
    network: UMEC,
    frames: Tensor,
    features: Features,
    masks: Tensor,
    valid: Tensor,
    rounds: int = 2,
    references: int = 3,
    feedback: float = 0.5,
) -> list[list[Tensor]]:
    """Segment frames 1..T-1 of each clip, one after another, from the masks of frame 0.

    Frame 0 always is a reference; the nearest earlier frames join it, with their pseudo mask or, with
    probability `feedback`, with the network's own detached prediction.

    Args:
        network: The network.
        frames: Normalised frames (B, T, 3, H, W), T >= 2.
        features: E's features of all frames, the T frames of a clip next to each other (B*T, ...).
        masks: Pseudo masks (B, T, K, H, W) in [0, 1]; those of the last frame are not read.
        valid: (B, K) bool, which objects exist.
        rounds: Refinement rounds unrolled for every query.
        references: N at most, 1 or more.
        feedback: Probability that a later reference carries the network's own prediction.

    Returns:
        For each query frame 1..T-1 the logits of every round, (B, K+1, H, W) each.

    Example:
        >>> import torch
        >>> from vos_umec.models.presets import network_from_preset
        >>> network = network_from_preset("tiny")
        >>> frames, masks = torch.rand(1, 3, 3, 32, 32), torch.ones(1, 3, 2, 32, 32)
        >>> out = carry_masks(network, frames, network.encoder(frames[0]), masks, torch.ones(1, 2).bool())
        >>> len(out), len(out[0]), tuple(out[0][0].shape)
        (2, 3, (1, 3, 32, 32))
    """
    B, T = frames.shape[:2]
    rows = torch.arange(B, device=frames.device) * T
    keys = features.key.unflatten(0, (B, T))  # (B, T, D, h, w)
    grid = (keys.shape[-2], keys.shape[-1])
    K = masks.shape[2]
    held, values = [network.to_grid(masks[:, 0])], [network.embed(frames[:, 0], features[rows], masks[:, 0])]
    outputs = []
    for t in range(1, T):
        chosen = [0, *range(max(1, t - references + 1), t)]
        A = affinity(keys[:, chosen], keys[:, t], network.tau)  # (B, N*h*w, h*w)
        V_r = torch.stack([values[r] for r in chosen], dim=1).flatten(2, 3)  # (B, N, K*Dv, h, w)
        Y_r = torch.stack([held[r] for r in chosen], dim=1)  # (B, N, K, h, w)
        V_q = read_out(A, V_r, grid).unflatten(1, (K, -1))  # (B, K, Dv, h, w)
        query = features[rows + t]
        logits = network.decode(frames[:, t], query, V_q, read_out(A, Y_r, grid), rounds, valid)
        outputs.append(logits)
        if t < T - 1:
            own = bool(torch.rand(()) < feedback)
            now = logits[-1].detach().softmax(dim=1)[:, 1:] if own else masks[:, t]  # (B, K, H, W)
            held.append(network.to_grid(now))
            values.append(network.embed(frames[:, t], query, now))
    return outputs
