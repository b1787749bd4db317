"""The reference memory: the frames that introduced an object, and the last N (UMEC section 5)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vos_umec.inference.scratch import Scratch


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
