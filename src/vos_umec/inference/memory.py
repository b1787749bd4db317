"""The reference memory: the frames that introduced an object, and the last N (UMEC section 5)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vos_umec.inference.refinement import Window
from vos_umec.matching.search import Scratch
from vos_umec.matching.topk import TopK, gather_values, top_k_affinity


class ReferenceMemory:
    """Keys, soft masks and mask embeddings of the reference frames, each stored once, bounded whatever the length.

    Anchors (frames that introduced an object) stay for good, in the first slots; the other frames share a ring of
    `references` slots, made with the first frame and written in place from then on. An object is *known* in a
    reference only if its mask was part of that frame's segmentation: references from before it appeared say
    nothing about it.

    Args:
        references: How many of the last frames to keep beside the anchors, 0 or more.

    Attributes:
        anchors: How many anchors there are.
        scratch: Working memory of the read-out.

    Example:
        >>> import torch
        >>> memory = ReferenceMemory(references=2)
        >>> for t in range(4):
        ...     memory.add(torch.zeros(2, 3, 8), torch.zeros(2, 3, 1), None, anchor=t == 0)
        >>> len(memory), memory.anchors, tuple(memory.keys.shape)
        (3, 1, (3, 2, 3, 8))
    """

    def __init__(self, references: int = 20) -> None:
        self.references = references
        self.anchors = 0
        self.scratch = Scratch()
        self._ring = 0  # frames ever written to the ring
        self._keys: Tensor | None = None  # (slots, h, w, D)
        self._masks: Tensor | None = None  # (slots, h, w, K)
        self._values: Tensor | None = None  # (slots, h, w, K, Dv)
        self._known: Tensor | None = None  # (slots, K) bool

    def __len__(self) -> int:
        return self.anchors + min(self._ring, self.references)

    @property
    def keys(self) -> Tensor:
        """Keys (N, h, w, D), the anchors first."""
        return self._held(self._keys)

    @property
    def masks(self) -> Tensor:
        """Soft masks (N, h, w, K)."""
        return self._held(self._masks)

    @property
    def values(self) -> Tensor:
        """Mask embeddings (N, h, w, K, Dv)."""
        return self._held(self._values)

    @property
    def known(self) -> Tensor:
        """(N, K) bool: whether a reference says anything about an object."""
        return self._held(self._known)

    def groups(self) -> Iterator[tuple[slice | Tensor, int, slice | Tensor]]:
        """The objects, grouped by the references that know them; one group unless objects appeared later.

        Yields:
            (references, how many of them are anchors, objects): two indices for the first and the last-but-one
            axis of `values`, and for the first axis of `keys` and the last of `masks`.
        """
        if bool(self.known.all()):
            yield slice(None), self.anchors, slice(None)
            return
        for pattern in self.known.T.unique(dim=0):  # (N,) bool
            rows = pattern.nonzero()[:, 0]
            objects = (pattern == self.known.T).all(dim=1).nonzero()[:, 0]
            yield rows, int(pattern[: self.anchors].sum()), objects

    def _held(self, slots: Tensor | None) -> Tensor:
        if slots is None:
            raise LookupError("the reference memory is empty; add a frame first")
        return slots[: len(self)]

    def add(self, key: Tensor, masks: Tensor, values: Tensor | None, anchor: bool = False) -> None:
        """Remember one frame.

        Args:
            key: Unit-norm key (h, w, D).
            masks: Soft masks of all K objects known now (h, w, K); K never shrinks.
            values: Mask embeddings (h, w, K, Dv), or None where no decoder is used.
            anchor: Keep the frame for good.
        """
        if not anchor and self.references == 0:
            return
        known = torch.ones(masks.shape[-1], dtype=torch.bool, device=masks.device)
        self._keys = self._fitted(self._keys, key, anchor)
        self._masks = self._fitted(self._masks, masks, anchor)
        self._known = self._fitted(self._known, known, anchor)
        if values is not None:
            self._values = self._fitted(self._values, values, anchor)
        if anchor:
            slot = self.anchors
            self.anchors += 1
        else:
            slot = self.anchors + self._ring % self.references
            self._ring += 1
        self._keys[slot], self._masks[slot], self._known[slot] = key, masks, known
        if values is not None and self._values is not None:
            self._values[slot] = values

    def forget(self, objects: list[int]) -> None:
        """Have the frames remembered so far say nothing of some objects.

        Args:
            objects: Places of the objects among the K.
        """
        if self._known is not None:
            self._known[:, objects] = False

    def _fitted(self, slots: Tensor | None, row: Tensor, anchor: bool) -> Tensor:
        """Slots as wide as `row`, with a free one behind the anchors if one more is to come."""
        if slots is None:
            return row.new_zeros(anchor + self.references, *row.shape)
        if slots.shape[1:] != row.shape:  # objects were added: old rows hold zeros for them
            wider = slots.new_zeros(len(slots), *row.shape)
            wider[tuple(slice(n) for n in slots.shape)] = slots
            slots = wider
        if anchor:
            slots = torch.cat([slots[: self.anchors], slots.new_zeros(1, *row.shape), slots[self.anchors :]])
        return slots


@dataclass(frozen=True)
class MemoryReadout:
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


def read_memory(
    memory: ReferenceMemory,
    key: Tensor,
    top_k: int,
    tau: float,
    radius: float | None,
    permanent_radius: float | None,
    repeat_first: bool = False,
    mutual: float | None = None,
) -> MemoryReadout:
    """Look up a frame in the memory.

    References that do not know an object must not vote against it: objects that the same references know share
    an affinity.

    Args:
        memory: A memory of one reference or more.
        key: Unit-norm key of the query (h, w, D).
        top_k: See `top_k_affinity`, as the rest.
        tau: Temperature.
        radius: Window on references that are no anchors.
        permanent_radius: Window on anchors.
        repeat_first: While there are fewer references than the memory can hold beside one anchor, let the frame
            that introduced an object stand in for each missing one.
        mutual: See `top_k_affinity`.

    Example:
        >>> memory = ReferenceMemory()
        >>> key = torch.nn.functional.normalize(torch.rand(4, 5, 3), dim=-1)
        >>> memory.add(key, torch.ones(4, 5, 1), torch.ones(4, 5, 1, 8), anchor=True)
        >>> found = read_memory(memory, key, top_k=3, tau=0.05, radius=None, permanent_radius=None)
        >>> tuple(found.coarse().shape), tuple(found.values(0, Window(1, 1, 2, 3)).shape)
        ((1, 4, 5), (8, 2, 3))
    """
    h, w, _ = key.shape
    parts = []
    for rows, anchors, objects in memory.groups():
        keys = memory.keys[rows]
        copies = max(0, 1 + memory.references - len(keys)) if repeat_first else 0
        best = top_k_affinity(
            key, keys, anchors, top_k, tau, radius, permanent_radius, copies, mutual, memory.scratch
        )
        if isinstance(rows, Tensor):
            best = _placed(best, rows, h * w)
        every = torch.arange(memory.masks.shape[-1], device=key.device)
        parts.append((every[objects].tolist(), best))
    return MemoryReadout(memory, (h, w), parts)


def _placed(best: TopK, rows: Tensor, cells: int) -> TopK:
    """The same cells, from their places among the references `rows` to their places in the memory."""
    anchors = None if best.anchors is None else _placed(best.anchors, rows, cells)
    return TopK(rows[best.index // cells] * cells + best.index % cells, best.weight, anchors)
