"""The reference memory and its read-out: the frames with a prompt, and the last N (UMEC section 5)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.device import send
from vos_umec.errors import ConfigError
from vos_umec.inference.refinement import Window
from vos_umec.matching.coarse_to_fine import compared_type, halve_keys
from vos_umec.matching.evidence import match_evidence
from vos_umec.matching.readout import Readout
from vos_umec.matching.search import Scratch
from vos_umec.matching.topk import TopK, gather_values

_OBJECTS = {"masks": 3, "values": 3, "known": 1, "prompted": 1}
"""The axis of the K objects."""

_SEEN, _SURELY_SEEN = 0.25, 0.5
"""An object is seen where its mask is above the first; it was hardly seen if that is nowhere above the second."""

_TRUSTED = 1e-3
"""Where the cells that are read have less of their weight left, they count as if all were trusted."""


class ReferenceMemory:
    """Keys, soft masks and mask embeddings of the reference frames, each stored once, bounded whatever the length.

    Frames with a prompt are permanent, in the first slots. The other frames share a ring of `references` slots,
    which is allocated with the first frame and written in place from then on. An object is *known* in a reference
    only if its mask was part of that frame's segmentation: references from before it appeared hold nothing of it.

    A correction, a later prompt of an object, makes the earlier references forget it. Those with a prompt stay for
    the sake of other objects, up to `corrections` of them; the oldest go first. The first permanent reference and
    those that hold the last prompt of an object stay in any case, so with K objects there are no more than
    1 + K + `corrections`.

    Args:
        references: How many of the last frames to keep beside the permanent ones, 0 or more.
        halve: Keep keys for a search from coarse to fine: at half the size too, and all in the type in which they
            are compared here (`compared_type`).
        corrections: How many references whose prompts were all replaced to keep, 0 or more.
        weigh: Keep how much each cell is trusted, and let it count by that.

    Attributes:
        permanent: How many permanent references there are.
        last: Soft masks of the frame added last (h, w, K); None before the first.
        scratch: Working memory of the read-out.

    Raises:
        ConfigError: If `corrections` is negative.
    """

    def __init__(
        self, references: int = 20, halve: bool = False, corrections: int = 10, weigh: bool = False
    ) -> None:
        if corrections < 0:
            raise ConfigError(f"corrections must be 0 or more; found {corrections}")
        self.references = references
        self.halve = halve
        self.corrections = corrections
        self.weigh = weigh
        self.permanent = 0
        self.last: Tensor | None = None
        self.scratch = Scratch()
        self._ring = 0  # frames ever written to the ring
        # "keys" (slots, h, w, D), "halved" (slots, h/2, w/2, D), "masks" (slots, h, w, K), "values" (slots, h, w,
        # K, Dv), "trust" (slots, h, w); "known" and "prompted", whether a slot knows an object and whether it holds
        # a prompt of it (slots, K) bool. These two are on the CPU, for decisions hang on them, and a GPU would have
        # to be waited for.
        self._slots: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return self.permanent + min(self._ring, self.references)

    @property
    def keys(self) -> Tensor:
        """Keys (N, h, w, D), the permanent references first."""
        return self._held("keys")

    @property
    def halved(self) -> Tensor | None:
        """Keys at half the size (N, ceil(h / 2), ceil(w / 2), D) if they are kept."""
        return self._held("halved") if self.halve else None

    @property
    def masks(self) -> Tensor:
        """Soft masks (N, h, w, K)."""
        return self._held("masks")

    @property
    def values(self) -> Tensor:
        """Mask embeddings (N, h, w, K, Dv)."""
        return self._held("values")

    @property
    def trust(self) -> Tensor | None:
        """How much each cell counts (N, h, w) in [0, 1], if that is kept."""
        return self._held("trust") if self.weigh else None

    @property
    def known(self) -> Tensor:
        """(N, K) bool on the CPU: whether a reference knows an object."""
        return self._held("known")

    def groups(self) -> Iterator[tuple[Tensor, list[int]]]:
        """The objects, grouped by the references that know them; one group if none appeared later.

        Yields:
            (places of references among the N, int64 on the CPU; places of objects among the K)
        """
        for pattern in self.known.T.unique(dim=0):  # (N,) bool
            objects = (pattern == self.known.T).all(dim=1).nonzero()[:, 0]
            yield pattern.nonzero()[:, 0], objects.tolist()

    def _held(self, name: str) -> Tensor:
        if name not in self._slots:
            raise LookupError("the reference memory is empty; add a frame first")
        return self._slots[name][: len(self)]

    def add(
        self,
        key: Tensor,
        masks: Tensor,
        values: Tensor | None,
        prompted: Sequence[int] = (),
        trust: Tensor | None = None,
    ) -> None:
        """Remember one frame.

        Args:
            key: Unit-norm key (h, w, D).
            masks: Soft masks of all K objects known now (h, w, K).
            values: Mask embeddings (h, w, K, Dv), or None where no decoder is used.
            prompted: Places among the K of the objects whose prompt the frame holds; with any, it is permanent.
            trust: How much each cell is to count (h, w) in [0, 1]; None for all of it.
        """
        permanent = len(prompted) > 0
        self.last = masks
        if not permanent and self.references == 0:
            return
        known = torch.ones(masks.shape[-1], dtype=torch.bool)
        frame = {"keys": key, "masks": masks, "known": known, "prompted": torch.zeros_like(known)}
        frame["prompted"][list(prompted)] = True
        if values is not None:
            frame["values"] = values
        if self.halve:
            frame |= {"keys": key.to(compared_type(key)), "halved": halve_keys(key[None])[0]}
        if self.weigh:
            frame["trust"] = masks.new_ones(masks.shape[:2]) if trust is None else trust
        for name, row in frame.items():
            self._slots[name] = self._fitted(self._slots.get(name), row, permanent)
        if permanent:
            slot = self.permanent
            self.permanent += 1
        else:
            slot = self.permanent + self._ring % self.references
            self._ring += 1
        for name, row in frame.items():
            self._slots[name][slot] = row
        if permanent:
            self._drop_replaced()

    def state(self) -> dict[str, Tensor]:
        """All that is remembered, as copies; `restore` gives it to a memory of the same settings."""
        held = {name: slots.clone() for name, slots in self._slots.items()}
        if self.last is not None:
            held["last"] = self.last.clone()
        return held | {"counts": torch.tensor([self.permanent, self._ring])}

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Remember what another memory of the same settings did."""
        slots = dict(state)
        self.permanent, self._ring = slots.pop("counts").tolist()
        last = slots.pop("last", None)
        self.last = None if last is None else send(last, device)
        on_cpu = ("known", "prompted")
        self._slots = {name: rows if name in on_cpu else send(rows, device) for name, rows in slots.items()}

    def forget(self, objects: list[int]) -> None:
        """Mark objects, by their places among the K, as not known in the frames remembered so far."""
        if self._slots:
            self._slots["known"][:, objects] = False

    def remove(self, objects: Collection[int]) -> None:
        """Drop objects, and the permanent references that hold a prompt of no other object.

        Args:
            objects: Places of the objects among the K; at least one object stays.
        """
        if not self._slots:
            return
        kept = torch.tensor([k for k in range(self._slots["known"].shape[1]) if k not in objects])
        if self.last is not None:
            self.last = self.last.index_select(-1, kept.to(self.last.device))
        self._keep(self._in_force()[:, kept].any(dim=1))
        for name, axis in _OBJECTS.items():
            if name in self._slots:
                self._slots[name] = self._slots[name].index_select(axis, kept.to(self._slots[name].device))

    def _in_force(self) -> Tensor:
        """The prompts of permanent references that no later one has replaced (permanent, K) bool."""
        return (self._slots["prompted"] & self._slots["known"])[: self.permanent]

    def _drop_replaced(self) -> None:
        """Drop the oldest permanent references whose prompts were all replaced, and those that know no object."""
        stays = self._in_force().any(dim=1)
        stays[0] = True
        known = self._slots["known"][: self.permanent].any(dim=1)
        replaced = (~stays & known).nonzero()[:, 0]
        stays[replaced[max(0, len(replaced) - self.corrections) :]] = True
        if not stays.all():
            self._keep(stays)

    def _keep(self, stays: Tensor) -> None:
        """Keep some of the permanent references (permanent,) bool, and the whole ring."""
        rows = torch.cat([stays.nonzero()[:, 0], torch.arange(self.permanent, len(self._slots["known"]))])
        self.permanent = int(stays.sum())
        for name, slots in self._slots.items():  # contiguous, as read-outs want it
            self._slots[name] = slots.index_select(0, rows.to(slots.device))

    def _fitted(self, slots: Tensor | None, row: Tensor, permanent: bool) -> Tensor:
        """Slots as wide as `row`, with a free one after the permanent references if one more is added."""
        if slots is None:
            return row.new_zeros(permanent + self.references, *row.shape)
        if slots.shape[1:] != row.shape:  # objects were added: old rows hold zeros for them
            wider = slots.new_zeros(len(slots), *row.shape)
            wider[tuple(slice(n) for n in slots.shape)] = slots
            slots = wider
        if permanent:
            slots = torch.cat([slots[: self.permanent], slots.new_zeros(1, *row.shape), slots[self.permanent :]])
        return slots


@dataclass(frozen=True)
class MemoryReadout:
    """The affinity of one frame to a memory, along which the memory's masks and embeddings are read.

    Attributes:
        memory: The memory.
        grid: (h, w) of the query.
        parts: Objects that are read alike, and the memory's cells they are read from, by keys alone.
    """

    memory: ReferenceMemory
    grid: tuple[int, int]
    parts: list[tuple[list[int], TopK]]

    @cached_property
    def weighed(self) -> list[tuple[list[int], TopK]]:
        """The parts, where each cell counts as much as it is trusted."""
        trust = self.memory.trust
        return self.parts if trust is None else [(objects, _trusted(best, trust)) for objects, best in self.parts]

    def coarse(self) -> Tensor:
        """Ybar_q (K, h, w), fp32; of all objects together no more than 1 at a cell."""
        masks = self._read(self.weighed)
        if len(self.parts) > 1:  # background is what all affinities leave, p_bg = prod (1 - p)
            taken = [torch.stack([masks[k] for k in objects]).sum(dim=0) for objects, _ in self.parts]
            background = torch.stack([1 - part for part in taken]).prod(dim=0)
            masks = masks / (masks.sum(dim=0) + background.clamp(min=0))
        return masks

    def from_permanent(self) -> Tensor:
        """Ybar_q from the permanent references alone (K, h, w), fp32."""
        return self._read([(objects, best.permanent) for objects, best in self.parts if best.permanent is not None])

    def _read(self, parts: list[tuple[list[int], TopK]]) -> Tensor:
        masks = self.memory.masks
        read = masks.new_zeros(masks.shape[-1], *self.grid)
        for objects, best in parts:
            found = gather_values(best, masks).T.unflatten(1, self.grid)  # (K, h, w)
            for k in objects:  # a GPU would have to wait for a list of them
                read[k] = found[k]
        return read

    def values(self, k: int, window: Window) -> Tensor:
        """V_q of object k inside a window (Dv, h', w'), channels last."""
        values = self.memory.values  # (N, h, w, K, Dv)
        best = self._of(k)
        index, weight = (
            window.cut(x.T.unflatten(1, self.grid), self.grid[0]).flatten(1).T for x in (best.index, best.weight)
        )  # (h'*w', top_k)
        # In the memory, an object's embedding of a cell lies K rows after its embedding of the cell before.
        here = replace(best, index=index * values.shape[3] + k, weight=weight)
        read = gather_values(here, values.reshape(-1, 1, 1, values.shape[4]))  # (h'*w', Dv)
        return read.view(window.height, window.width, -1).permute(2, 0, 1)

    def evidence(self, k: int, tau: float) -> Tensor:
        """What tells a wrong match of object k, see `match_evidence` (4, h, w)."""
        of_object = self.memory.masks[..., k : k + 1].contiguous()
        sure = match_evidence(self._of(k), of_object, self.memory.permanent, tau)  # (h*w, 1, 4)
        return sure[:, 0].T.reshape(-1, *self.grid)

    def _of(self, k: int) -> TopK:
        return next(best for objects, best in self.weighed if k in objects)


def read_memory(
    memory: ReferenceMemory,
    key: Tensor,
    readout: Readout,
    tau: float,
    repeat_first: bool = False,
    margin: int | None = None,
) -> MemoryReadout:
    """Search the memory for the best cells of a frame.

    References that do not know an object must not vote against it. So there is one affinity for all objects that
    the same references know.

    Args:
        memory: A memory of one reference or more.
        key: Unit-norm key of the query (h, w, D).
        readout: Which cells are read.
        tau: Temperature.
        repeat_first: While there are fewer references than the memory can hold beside one permanent one, repeat
            the first frame that knows an object in place of each missing one.
        margin: Search only for cells where an object was seen in the last frame, and so many cells around; the
            others are background. If an object was hardly seen there, it is looked for everywhere. None to search
            for all cells.
    """
    h, w, _ = key.shape
    wanted = None if margin is None else _near_objects(memory, margin)
    parts = []
    for rows, objects in memory.groups():
        permanent = int((rows < memory.permanent).sum())
        copies = max(0, 1 + memory.references - len(rows)) if repeat_first else 0
        keys, halved = memory.keys, memory.halved
        if len(rows) < len(memory):  # else nothing to choose, nothing to copy
            rows = send(rows, key.device)
            keys = keys.index_select(0, rows)
            halved = None if halved is None else halved.index_select(0, rows)
        best = readout.search(key, keys, permanent, tau, copies, memory.scratch, halved, wanted)
        parts.append((objects, best if len(rows) == len(memory) else _placed(best, rows, h * w)))
    return MemoryReadout(memory, (h, w), parts)


def _near_objects(memory: ReferenceMemory, margin: int) -> Tensor | None:
    """The cells around where objects were seen in the last frame (h, w) bool; None, for all, if one hardly was."""
    if memory.last is None:
        return None
    masks = memory.last.permute(2, 0, 1)  # (K, h, w)
    if masks.amax(dim=(1, 2)).min() < _SURELY_SEEN:
        return None
    seen = (masks > _SEEN).any(dim=0, keepdim=True).float()  # (1, h, w)
    return F.max_pool2d(seen, kernel_size=2 * margin + 1, stride=1, padding=margin)[0] > 0


def _trusted(best: TopK, trust: Tensor) -> TopK:
    """The same cells, their weights times how much each is trusted (N, h, w), brought to the sum that they had."""
    weight = best.weight * trust.flatten()[best.index]  # (h*w, k)
    total = weight.sum(dim=1, keepdim=True)
    before = best.weight.sum(dim=1, keepdim=True)
    return replace(best, weight=torch.where(total > _TRUSTED, weight * (before / total), best.weight))


def agreement(coarse: Tensor, refined: Tensor) -> Tensor:
    """How much a cell is to be trusted as a reference, by what the vote and the decoder say of it.

    Memory keeps coarse masks, for what the decoder adds to them wrongly would persist. Where the decoder says
    something else, one of the two is wrong, and later frames better read other cells. The square was chosen by six
    sequences of DAVIS, where other powers are within 0.2 of J&F.

    Args:
        coarse: Ybar_q, the coarse masks (K, h, w) in [0, 1], of all objects together no more than 1 at a cell.
        refined: The refined masks (K, h, w), likewise.

    Returns:
        (h, w) in [0, 1]: the square of what both distributions over background and objects have in common,
        (1 - sum |Ybar_q - Yhat| / 2)^2.

    Example:
        >>> coarse = torch.tensor([[[1.0, 0.5, 0.0]]])
        >>> agreement(coarse, torch.tensor([[[1.0, 1.0, 1.0]]])).tolist()
        [[1.0, 0.25, 0.0]]
    """
    difference = coarse - refined
    apart = (difference.abs().sum(dim=0) + difference.sum(dim=0).abs()) / 2  # (h, w), with the background
    return (1 - apart).clamp(min=0) ** 2


def _placed(best: TopK, rows: Tensor, cells: int) -> TopK:
    """The same cells, from their places among the references `rows` to their places in the memory."""
    permanent = None if best.permanent is None else _placed(best.permanent, rows, cells)
    return replace(best, index=rows[best.index // cells] * cells + best.index % cells, permanent=permanent)
