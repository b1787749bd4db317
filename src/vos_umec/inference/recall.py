"""What the reference memory says of a query frame: coarse masks, and mask embeddings where they are asked for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vos_umec.inference.memory import ReferenceMemory
from vos_umec.inference.readout import TopK, gather_values, top_k_affinity
from vos_umec.inference.windows import Window


@dataclass(frozen=True)
class Recall:
    """The affinity to a memory, ready to carry over what the memory holds.

    Attributes:
        memory: The memory.
        grid: (h, w) of the query.
        parts: Objects that are read alike, and the memory's cells they are read from.
    """

    memory: ReferenceMemory
    grid: tuple[int, int]
    parts: list[tuple[list[int], TopK]]

    def coarse(self) -> Tensor:
        """Ybar_q (K, h, w), fp32; of all objects together no more than 1 at a cell."""
        masks = self._read(self.parts)
        if len(self.parts) > 1:  # background is what all affinities leave, p_bg = prod (1 - p)
            background = torch.stack([1 - masks[objects].sum(dim=0) for objects, _ in self.parts]).prod(dim=0)
            masks = masks / (masks.sum(dim=0) + background.clamp(min=0))
        return masks

    def from_anchors(self) -> Tensor:
        """What the anchors alone say of the query (K, h, w), fp32: what looks like the object as it was given."""
        return self._read([(objects, best.anchors) for objects, best in self.parts if best.anchors is not None])

    def _read(self, parts: list[tuple[list[int], TopK]]) -> Tensor:
        masks = self.memory.masks
        read = masks.new_zeros(masks.shape[-1], *self.grid)
        for objects, best in parts:
            read[objects] = gather_values(best, masks).T[objects].unflatten(1, self.grid)
        return read

    def values(self, k: int, window: Window) -> Tensor:
        """V_q of object k inside a window (Dv, h', w'), channels last."""
        values = self.memory.values  # (N, h, w, K, Dv)
        h, w = self.grid
        best = next(best for objects, best in self.parts if k in objects)
        inside = window.cut(torch.arange(h * w, device=values.device).view(h, w), h).flatten()
        # In the memory, an object's embedding of a cell lies K rows after its embedding of the cell before.
        here = TopK(best.index[inside] * values.shape[3] + k, best.weight[inside])
        found = gather_values(here, values.reshape(-1, 1, 1, values.shape[4]))  # (h'*w', Dv)
        return found.view(window.height, window.width, -1).permute(2, 0, 1)


def recall(
    memory: ReferenceMemory,
    key: Tensor,
    top_k: int,
    tau: float,
    radius: float | None,
    anchor_radius: float | None,
    repeat_first: bool = False,
    mutual: float | None = None,
) -> Recall:
    """Look up a frame in the memory.

    References that do not know an object must not vote against it: objects that the same references know share
    an affinity.

    Args:
        memory: A memory of one reference or more.
        key: Unit-norm key of the query (h, w, D).
        top_k: See `top_k_affinity`, as the rest.
        tau: Temperature.
        radius: Window on references that are no anchors.
        anchor_radius: Window on anchors.
        repeat_first: While there are fewer references than the memory can hold beside one anchor, let the frame
            that introduced an object stand in for each missing one.
        mutual: See `top_k_affinity`.

    Example:
        >>> memory = ReferenceMemory()
        >>> key = torch.nn.functional.normalize(torch.rand(4, 5, 3), dim=-1)
        >>> memory.add(key, torch.ones(4, 5, 1), torch.ones(4, 5, 1, 8), anchor=True)
        >>> found = recall(memory, key, top_k=3, tau=0.05, radius=None, anchor_radius=None)
        >>> tuple(found.coarse().shape), tuple(found.values(0, Window(1, 1, 2, 3)).shape)
        ((1, 4, 5), (8, 2, 3))
    """
    h, w, _ = key.shape
    parts = []
    for rows, anchors, objects in memory.groups():
        keys = memory.keys[rows]
        copies = max(0, 1 + memory.references - len(keys)) if repeat_first else 0
        best = top_k_affinity(key, keys, anchors, top_k, tau, radius, anchor_radius, copies, mutual, memory.scratch)
        if isinstance(rows, Tensor):
            best = _placed(best, rows, h * w)
        every = torch.arange(memory.masks.shape[-1], device=key.device)
        parts.append((every[objects].tolist(), best))
    return Recall(memory, (h, w), parts)


def _placed(best: TopK, rows: Tensor, cells: int) -> TopK:
    """The same cells, from their places among the references `rows` to their places in the memory."""
    anchors = None if best.anchors is None else _placed(best.anchors, rows, cells)
    return TopK(rows[best.index // cells] * cells + best.index % cells, best.weight, anchors)
