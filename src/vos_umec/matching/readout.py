"""How references are read along the affinity: the settings that training and inference share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from vos_umec.errors import ConfigError
from vos_umec.matching.dense import affinity, readout
from vos_umec.matching.search import Scratch
from vos_umec.matching.topk import TopK, gather_values, top_k_affinity

RADIUS = 12.0


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

    Raises:
        ConfigError: If a setting is out of its range, or windows are set where all cells are read.
    """

    top_k: int | None = 10
    radius: float | None = RADIUS
    permanent_radius: float | None = None
    tau: float | None = None
    window: Literal["disc", "square"] = "disc"

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
    ) -> TopK:
        """The best cells for one query frame; the arguments are those of `top_k_affinity`.

        Raises:
            ConfigError: If `top_k` is None.
        """
        if self.top_k is None:
            raise ConfigError("top_k None has no best cells to search for; give it, such as 10")
        reach = self.radius, self.permanent_radius
        return top_k_affinity(key_q, keys_r, permanent, self.top_k, tau, *reach, copies, scratch, self.window)

    def read_clips(self, keys_r: Tensor, key_q: Tensor, values: Tensor, tau: float) -> Tensor:
        """A^T V_r for a batch of clips, with gradients (UMEC eq. 4 and 5).

        Args:
            keys_r: Unit-norm keys of the references (B, N, D, h, w), the permanent one first.
            key_q: Unit-norm keys of the query (B, D, h, w).
            values: What the references hold (B, N, C, h, w).
            tau: The network's temperature, used where the settings have none.

        Returns:
            The values at the query's cells (B, C, h, w), fp32.
        """
        tau = tau if self.tau is None else self.tau
        if self.top_k is None:
            return readout(affinity(keys_r, key_q, tau), values, (key_q.shape[-2], key_q.shape[-1]))
        clips = zip(keys_r, key_q, values, strict=True)
        return torch.stack([self._read_clip(*clip, tau) for clip in clips])

    def _read_clip(self, keys_r: Tensor, key_q: Tensor, values: Tensor, tau: float) -> Tensor:
        """The same for one clip: (N, D, h, w), (D, h, w), (N, C, h, w) to (C, h, w)."""
        key_q, keys_r = key_q.permute(1, 2, 0).contiguous(), keys_r.permute(0, 2, 3, 1).contiguous()
        with torch.no_grad():
            found = self.search(key_q, keys_r, 1, tau)
        # The search has no gradient: its weights stay, and the scores of its cells are computed again for theirs.
        chosen = keys_r.flatten(0, 2)[found.index]  # (h*w, k, D)
        scores = torch.einsum("qkd,qd->qk", chosen, key_q.flatten(0, 1)).float()
        logits = found.weight.log() + (scores - scores.detach()) / tau  # -inf where there are fewer than k cells
        weight = torch.softmax(logits, dim=1)
        read = gather_values(replace(found, weight=weight), values.permute(0, 2, 3, 1).float())  # (h*w, C)
        return read.T.reshape(-1, *key_q.shape[:2])
