"""How references are read along the affinity: settings that training and inference share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.matching.affinity import affinity, readout
from vos_umec.matching.topk import TopK, gather_values, top_k_affinity


@dataclass(frozen=True)
class Readout:
    """How training reads its references.

    Attributes:
        top_k: Cells read for each query cell, as in inference, so that what D learns to mend is what it will be
            given; None for all, the equation as it stands.
        radius: Window on the references but the first, in cells; None for no window. Only with `top_k`.
        permanent_radius: Window on the first reference.
        mutual: Temperature at which one-sided matches lose weight, see `top_k_affinity`; only with `top_k`. What
            they lose is taken as given: no gradient flows through it.

    Raises:
        ConfigError: If there is a window or `mutual` without `top_k`, nothing to read, or `mutual` is not above 0.
    """

    top_k: int | None = None
    radius: float | None = None
    permanent_radius: float | None = None
    mutual: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.top_k is None and (self.radius, self.permanent_radius, self.mutual) != (None, None, None):
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
            >>> every = Readout()(keys, keys[:, 1], values, tau=0.05)
            >>> torch.allclose(every, Readout(top_k=40)(keys, keys[:, 1], values, tau=0.05), atol=1e-5)
            True
        """
        grid = (key_q.shape[-2], key_q.shape[-1])
        if self.top_k is None:
            return readout(affinity(keys_r, key_q, tau), values, grid)
        clips = zip(keys_r, key_q, values, strict=True)
        return torch.stack([self._of_clip(*clip, tau) for clip in clips])

    def _of_clip(self, keys_r: Tensor, key_q: Tensor, values: Tensor, tau: float) -> Tensor:
        """The same for one clip: (N, D, h, w), (D, h, w), (N, C, h, w) to (C, h, w)."""
        key_q, keys_r = key_q.permute(1, 2, 0).contiguous(), keys_r.permute(0, 2, 3, 1).contiguous()
        with torch.no_grad():
            found = top_k_affinity(
                key_q, keys_r, 1, self.top_k or 1, tau, self.radius, self.permanent_radius, mutual=self.mutual
            )
        # The search has no gradient; the scores of what it found are taken again, for theirs.
        chosen = keys_r.flatten(0, 2)[found.index]  # (h*w, k, D)
        scores = torch.einsum("qkd,qd->qk", chosen, key_q.flatten(0, 1)).float()
        # -inf at places left over where cells are few
        worth = found.weight.log() + (scores - scores.detach()) / tau
        best = TopK(found.index, torch.softmax(worth, dim=1))
        carried = gather_values(best, values.permute(0, 2, 3, 1).float())  # (h*w, C)
        return carried.T.reshape(-1, *key_q.shape[:2])
