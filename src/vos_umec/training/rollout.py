"""Carrying masks through a clip as in training, gradients included (UMEC section 2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.inference.readout import TopK, gather_values, top_k_affinity
from vos_umec.models.affinity import affinity, read_out
from vos_umec.models.encoder import Features
from vos_umec.models.umec import UMEC


@dataclass(frozen=True)
class ReadOut:
    """How training reads its references.

    Attributes:
        top_k: Cells read for each query cell, as in inference, so that what D learns to mend is what it will be
            given; None for all, the equation as it stands.
        radius: Window on the references but the first, in cells; None for no window. Only with `top_k`.
        anchor_radius: Window on the first reference.
        mutual: Temperature at which one-sided matches lose weight, see `top_k_affinity`; only with `top_k`. What
            they lose is taken as given: no gradient flows through it.

    Raises:
        ConfigError: If there is a window or `mutual` without `top_k`, nothing to read, or `mutual` is not above 0.
    """

    top_k: int | None = None
    radius: float | None = None
    anchor_radius: float | None = None
    mutual: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.top_k is None and (self.radius, self.anchor_radius, self.mutual) != (None, None, None):
            raise ConfigError(
                "windows on the references of training, and mutual, need top_k; give it, or leave them out"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be 1 or more, or None for all cells; found {self.top_k}")
        if self.mutual is not None and self.mutual <= 0:
            raise ConfigError(f"mutual must be above 0, or None for the paper's read-out; found {self.mutual}")

    def __call__(self, keys_r: Tensor, key_q: Tensor, values: Tensor, tau: float) -> Tensor:
        """A^T V_r for a batch (UMEC eq. 4 and 5).

        Args:
            keys_r: Unit-norm keys of the references (B, N, D, h, w), the first one the anchor.
            key_q: Unit-norm keys of the query (B, D, h, w).
            values: What the references hold (B, N, C, h, w).
            tau: Temperature.

        Returns:
            The values at the query's cells (B, C, h, w).

        Example:
            >>> keys = torch.nn.functional.normalize(torch.randn(1, 2, 8, 4, 5), dim=2)
            >>> values = torch.rand(1, 2, 3, 4, 5)
            >>> every = ReadOut()(keys, keys[:, 1], values, tau=0.05)
            >>> torch.allclose(every, ReadOut(top_k=40)(keys, keys[:, 1], values, tau=0.05), atol=1e-5)
            True
        """
        grid = (key_q.shape[-2], key_q.shape[-1])
        if self.top_k is None:
            return read_out(affinity(keys_r, key_q, tau), values, grid)
        clips = zip(keys_r, key_q, values, strict=True)
        return torch.stack([self._of_clip(*clip, tau) for clip in clips])

    def _of_clip(self, keys_r: Tensor, key_q: Tensor, values: Tensor, tau: float) -> Tensor:
        """The same for one clip: (N, D, h, w), (D, h, w), (N, C, h, w) to (C, h, w)."""
        key_q, keys_r = key_q.permute(1, 2, 0).contiguous(), keys_r.permute(0, 2, 3, 1).contiguous()
        with torch.no_grad():
            found = top_k_affinity(
                key_q, keys_r, 1, self.top_k or 1, tau, self.radius, self.anchor_radius, mutual=self.mutual
            )
        # The search has no gradient; the scores of what it found are taken again, for theirs.
        chosen = keys_r.flatten(0, 2)[found.index]  # (h*w, k, D)
        scores = torch.einsum("qkd,qd->qk", chosen, key_q.flatten(0, 1)).float()
        # -inf at places left over where cells are few
        worth = found.weight.log() + (scores - scores.detach()) / tau
        best = TopK(found.index, torch.softmax(worth, dim=1))
        carried = gather_values(best, values.permute(0, 2, 3, 1).float())  # (h*w, C)
        return carried.T.reshape(-1, *key_q.shape[:2])


def carry_masks(
    network: UMEC,
    frames: Tensor,
    features: Features,
    masks: Tensor,
    valid: Tensor,
    rounds: int = 2,
    references: int = 3,
    feedback: float = 0.5,
    read: ReadOut | None = None,
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
        read: How the references are read; None for all of their cells.

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
    T = frames.shape[1]
    read = ReadOut() if read is None else read
    by_frame = _by_frame(features, T)
    keys = [frame.key for frame in by_frame]  # T times (B, D, h, w)
    K = masks.shape[2]

    def held(t: int, now: Tensor) -> Tensor:
        """What frame t holds as a reference: the mask and its embedding of every object, (B, K*(1+Dv), h, w)."""
        Y, V = network.to_grid(now), network.embed(frames[:, t], by_frame[t], now).flatten(1, 2)
        return torch.cat((Y, V.to(Y.dtype)), dim=1)

    memory = [held(0, masks[:, 0])]
    outputs = []
    for t in range(1, T):
        chosen = [0, *range(max(1, t - references + 1), t)]
        carried = read(
            torch.stack([keys[r] for r in chosen], dim=1),
            keys[t],
            torch.stack([memory[r] for r in chosen], dim=1),
            network.tau,
        )  # (B, K*(1+Dv), h, w)
        Ybar_q, V_q = carried[:, :K], carried[:, K:].unflatten(1, (K, -1))  # (B, K, h, w), (B, K, Dv, h, w)
        logits = network.decode(frames[:, t], by_frame[t], V_q, Ybar_q, rounds, valid)
        outputs.append(logits)
        if t < T - 1:
            own = bool(torch.rand(()) < feedback)
            now = logits[-1].detach().softmax(dim=1)[:, 1:] if own else masks[:, t]  # (B, K, H, W)
            memory.append(held(t, now))
    return outputs


def _by_frame(features: Features, T: int) -> list[Features]:
    """Features of (B*T, ...) as T times (B, ...); by unbind, for the gradient of an index is slow to add up."""
    key, trunk, *skips = (
        x.unflatten(0, (-1, T)).unbind(1) for x in (features.key, features.trunk, *features.skips)
    )
    return [Features(key[t], trunk[t], tuple(skip[t] for skip in skips)) for t in range(T)]
