"""How references are read along the affinity: the settings that training and inference share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal, Self

import torch
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.matching.dense import affinity, readout
from vos_umec.matching.evidence import evidence_of_all_cells, match_evidence
from vos_umec.matching.search import Scratch
from vos_umec.matching.topk import TopK, gather_values, top_k_affinity

RADIUS = 12.0

MemoryMasks = Literal["final", "coarse", "coarse_vote"]
"""What references hold of a frame that the network segmented: its refined masks; those before refinement; or coarse
masks for the vote and refined ones for V."""


@dataclass(frozen=True)
class Readout:
    """Which cells of the references a query cell reads, and how it weighs them.

    Attributes:
        top_k: Cells read for each query cell, over all references jointly. None reads all cells, without windows
            (UMEC eq. 4 as it stands); only training does that.
        radius: Window on the references that are not permanent, in cells: those at a strictly smaller distance;
            None for no window.
        permanent_radius: The same for the permanent references, which are frames with a prompt. In training it is
            the first frame.
        tau: Temperature of the softmax; None for the network's own.
        window: Shape of the windows: "disc", where distance is Euclidean, or "square", where it is the larger one
            of the distances along rows and columns (2 radius - 1 cells to a side).
        coarse_to_fine: Search at half the size first, and compare only the cells inside so many best coarse cells,
            four in each: nearly the same cells in a fraction of the time. None compares all.

    Raises:
        ConfigError: If a setting is out of its range, or windows are set where all cells are read.
    """

    top_k: int | None = 10
    radius: float | None = RADIUS
    permanent_radius: float | None = None
    tau: float | None = None
    window: Literal["disc", "square"] = "disc"
    coarse_to_fine: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.window not in ("disc", "square"):
            raise ConfigError(f"window must be 'disc' or 'square'; found {self.window!r}")
        for name in self.__dataclass_fields__.keys() - {"window"}:
            if not isinstance(value := getattr(self, name), int | float | None):
                raise ConfigError(
                    f"{name} of the readout is {value!r}; expected a number. In a command give all of it, "
                    "as '{top_k: 10, radius: 12}'"
                )
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be 1 or more, or None for all cells; found {self.top_k}")
        if self.coarse_to_fine is not None and 4 * self.coarse_to_fine < (self.top_k or inf):
            raise ConfigError(
                f"coarse_to_fine must hold the top_k in its 4 cells each, or be None for an exact search; found "
                f"coarse_to_fine {self.coarse_to_fine} with top_k {self.top_k}"
            )
        for name in ("radius", "permanent_radius"):
            reach = getattr(self, name)
            if reach is not None and reach <= 0:
                raise ConfigError(f"{name} must be above 0 cells, or None for no window; found {reach}")
        if self.tau is not None and self.tau <= 0:
            raise ConfigError(f"tau must be above 0, or None for the network's own; found {self.tau}")
        if self.top_k is None and (self.radius not in (None, RADIUS) or self.permanent_radius is not None):
            raise ConfigError(
                "top_k None reads all cells, without windows; leave out radius and permanent_radius, or give top_k"
            )

    @classmethod
    def of(cls, settings: Self | Mapping[str, Any] | None) -> Self:
        """A read-out from its settings, as a configuration holds them; None for the defaults.

        Raises:
            ConfigError: If there is no such setting, or one is out of its range.
        """
        if isinstance(settings, cls):
            return settings
        settings = settings or {}
        names = cls.__dataclass_fields__
        if not isinstance(settings, Mapping) or settings.keys() - names:
            raise ConfigError(f"readout {settings!r}: expected a mapping of the settings {', '.join(names)}")
        return cls(**settings)

    def search(
        self,
        key_q: Tensor,
        keys_r: Tensor,
        permanent: int,
        tau: float,
        copies: int = 0,
        scratch: Scratch | None = None,
        halved: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> TopK:
        """The best cells for one query frame; the arguments are those of `top_k_affinity`.

        Raises:
            ConfigError: If `top_k` is None.
        """
        if self.top_k is None:
            raise ConfigError("top_k None has no best cells to search for; give it, such as 10")
        reach = self.radius, self.permanent_radius
        return top_k_affinity(
            key_q, keys_r, permanent, self.top_k, tau, *reach, copies, scratch, self.window, self.coarse_to_fine,
            halved, wanted,
        )  # fmt: skip

    def read_clips(self, keys_r: Tensor, key_q: Tensor, masks: Tensor, values: Tensor, tau: float) -> "ClipReadout":
        """A^T V_r for a batch of clips, with gradients (UMEC eq. 4 and 5).

        Args:
            keys_r: Unit-norm keys of the references (B, N, D, h, w), the permanent one first.
            key_q: Unit-norm keys of the query (B, D, h, w).
            masks: Soft masks of the references (B, N, K, h, w).
            values: Mask embeddings of the references (B, N, K, Dv, h, w).
            tau: The network's temperature, used where the settings have none.
        """
        tau = tau if self.tau is None else self.tau
        K = masks.shape[2]
        held = torch.cat((masks, values.flatten(2, 3).to(masks.dtype)), dim=2)  # (B, N, K*(1+Dv), h, w)
        if self.top_k is None:
            A = affinity(keys_r, key_q, tau)
            read = readout(A, held, (key_q.shape[-2], key_q.shape[-1]))
            with torch.no_grad():
                evidence = evidence_of_all_cells(A, keys_r, key_q, masks[:, 0], tau)
        else:
            clips = [self._read_clip(*clip, K, tau) for clip in zip(keys_r, key_q, held, strict=True)]
            read, evidence = (torch.stack(part).permute(0, 3, 1, 2) for part in zip(*clips, strict=True))
            evidence = evidence.unflatten(1, (K, -1))
        return ClipReadout(read[:, :K], read[:, K:].unflatten(1, (K, -1)), evidence)

    def _read_clip(self, keys_r: Tensor, key_q: Tensor, held: Tensor, K: int, tau: float) -> tuple[Tensor, Tensor]:
        """The same for one clip: (N, D, h, w), (D, h, w), (N, K*(1+Dv), h, w) to (h, w, K*(1+Dv)), (h, w, K*4)."""
        size = key_q.shape[1:]
        key_q, keys_r = key_q.permute(1, 2, 0).contiguous(), keys_r.permute(0, 2, 3, 1).contiguous()
        held = held.permute(0, 2, 3, 1).float()  # (N, h, w, K*(1+Dv))
        with torch.no_grad():
            found = self.search(key_q, keys_r, 1, tau)
            evidence = match_evidence(found, held[..., :K], 1, tau)  # (h*w, K, 4)
        if key_q.requires_grad or keys_r.requires_grad:
            # The search has no gradient. Its weights stay; its cells' scores are computed again for gradients.
            chosen = keys_r.flatten(0, 2)[found.index]  # (h*w, k, D)
            scores = torch.einsum("qkd,qd->qk", chosen, key_q.flatten(0, 1)).float()
            logits = found.weight.log() + (scores - scores.detach()) / tau  # -inf for missing cells
            found = replace(found, weight=torch.softmax(logits, dim=1))
        return gather_values(found, held).unflatten(0, size), evidence.flatten(1).unflatten(0, size)


@dataclass(frozen=True)
class ClipReadout:
    """What a query frame of each clip reads out of its references.

    Attributes:
        masks: Ybar_q, the coarse masks (B, K, h, w), fp32.
        values: V_q, the mask embeddings (B, K, Dv, h, w).
        evidence: What tells a wrong match, see `match_evidence` (B, K, 4, h, w), without gradient.
    """

    masks: Tensor
    values: Tensor
    evidence: Tensor
