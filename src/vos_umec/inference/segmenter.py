"""Segmenting one video from prompts, one call a frame (UMEC section 5)."""

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, Self, cast, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.device import multiplies_bf16, send
from vos_umec.errors import ConfigError
from vos_umec.inference.fusion import fuse_for_inference
from vos_umec.inference.inputs import (
    MaskLike,
    check_frame,
    check_settings,
    mask_array,
    object_ids,
    prompted_objects,
)
from vos_umec.inference.memory import MemoryReadout, ReferenceMemory, agreement, read_memory
from vos_umec.inference.postprocess import frame_result, remove_outliers
from vos_umec.inference.protocols import PROTOCOLS, change_settings
from vos_umec.inference.refinement import FrameRefiner, object_windows
from vos_umec.inference.resizing import Fit, MaskSampling, Resizing
from vos_umec.inference.video import Frames, segment_video
from vos_umec.matching.readout import MemoryMasks, Readout
from vos_umec.models.encoder import Features
from vos_umec.models.umec import UMEC, PropagationNetwork


class VideoSegmenter:
    """Propagates the masks of objects through a video, from the prompts (reference masks) of some frames.

    With `rounds=0` the encoder's affinity alone propagates them: label propagation, the baseline of this field.
    With more rounds the frame-mask encoder and the decoder refine them.

    Args:
        network: A trained network; one without V and D (PropagationNetwork) works with `rounds=0`. The segmenter
            works with a copy of it as it is now, made ready for inference, on the same device (CPU, CUDA, MPS).
        rounds: R, refinement rounds.
        references: The last frames kept in memory beside the permanent ones, which are the frames with a prompt.
        readout: How the memory is read: a `Readout`, or a mapping of its settings, such as {"radius": 18}.
        memory_masks: "final" remembers the refined masks, "coarse" those before refinement; "coarse_vote" coarse
            masks for the vote, which label propagation alone then carries on, and the refined ones for V.
        max_extent: Drop what is farther from an object's place than so many times its size, as `remove_outliers`
            does; None to keep it.
        repeat_first: Until `references` frames have passed, repeat the first frame that knows an object in place of
            each missing one, as published label propagation does.
        short_side: Segment at this short side and give masks at the video's own size; None for the native size.
        crop_margin: Run V and D only where an object is seen and so many cells around it; None for the whole frame.
            "auto" is 4 on a CPU, where it is quicker, and None elsewhere: a GPU would be waited for twice a frame.
            Masks differ a little between the two.
        bf16: Run the networks in bf16, but not keys, affinity and masks; None for where the hardware multiplies so.
        fit: For sides that are no multiples of the stride, "pad" repeats the last row and column. "native" takes
            the frame as it is, into ceil(H / s) x ceil(W / s) cells, as ResNets do; for `rounds=0`. A number scales
            the longer side down to a multiple of so many pixels and the shorter one to a multiple of the stride.
        mask_sampling: How masks are brought to the grid: "area", means over cells; "bilinear", between the pixels
            around a cell's center; "aligned", the same with the centers of the corner cells on the corner pixels;
            "nearest", one pixel of each cell, with which ids at the working size become those of the video's own
            size by nearest pixels, too. From the grid, masks are always enlarged bilinearly.
        stretch_masks: Stretch each object's mask and the background to 0 to 1 before the largest wins a pixel, so
            that a small, faint object is not lost. Acts on ids alone.
        blend_coarse: The logits of the result are the mean of the decoder's and the coarse masks. Where V remembers
            refined masks, it is given this mean as it is.
        search_margin: Search only for cells where an object was seen in the last frame, and so many cells around;
            None, or while an object is hardly seen, for all. Acts on a CPU alone: a GPU would be waited for.
        corrections: A later prompt of an object replaces its earlier ones. So many frames whose prompts were all
            replaced stay in memory for the other objects' sake; the oldest go first, the first frame stays.
        weigh_memory: A cell of memory counts by how far the coarse and the refined mask of its frame agree, see
            `agreement`; those of frames with a prompt count fully. Changes nothing with memory_masks "final".

    Attributes:
        ids: The objects that are followed, in the order of their first prompts.

    Raises:
        ConfigError: If a setting is unknown or out of its range, or `rounds` is above 0 without V and D.

    Example:
        >>> from vos_umec.models.factory import build_network
        >>> segmenter = VideoSegmenter(build_network("tiny"), references=3, readout={"top_k": 5})
        >>> frame = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
        >>> mask = np.zeros((32, 48), np.uint8)
        >>> mask[8:24, 8:24] = 7
        >>> _ = segmenter.step(frame, mask)
        >>> ids = segmenter.step(frame)
        >>> sorted(np.unique(ids).tolist()), segmenter.ids
        ([0, 7], [7])
    """

    def __init__(
        self,
        network: PropagationNetwork,
        rounds: int = 3,
        references: int = 20,
        readout: Readout | Mapping[str, Any] | None = None,
        memory_masks: MemoryMasks = "final",
        max_extent: float | None = None,
        repeat_first: bool = False,
        short_side: int | None = None,
        crop_margin: int | Literal["auto"] | None = "auto",
        bf16: bool | None = None,
        fit: Fit = "pad",
        mask_sampling: MaskSampling = "area",
        stretch_masks: bool = False,
        blend_coarse: bool = False,
        search_margin: int | None = None,
        corrections: int = 10,
        weigh_memory: bool = False,
    ) -> None:
        check_settings(network, rounds, references, memory_masks, max_extent, crop_margin, fit, search_margin)
        self.readout = Readout.of(readout)
        if self.readout.top_k is None:
            raise ConfigError(
                "top_k None is for training: inference reads the best cells alone; give one, such as 10"
            )
        self.device = next(network.parameters()).device
        self.bf16 = multiplies_bf16(self.device) if bf16 is None else bf16
        self.network = fuse_for_inference(network, self.bf16)
        self.rounds = rounds
        self.references, self.corrections = references, corrections
        self.weigh_memory = weigh_memory and rounds > 0
        self.tau = network.tau if self.readout.tau is None else self.readout.tau
        self.memory_masks = memory_masks
        self.max_extent = max_extent
        self.repeat_first = repeat_first
        self.short_side = short_side
        if crop_margin == "auto":
            crop_margin = 4 if self.device.type == "cpu" else None
        self.resizing = Resizing(self.network.stride, short_side, fit, mask_sampling)
        self.crop_margin = crop_margin
        self.stretch_masks = stretch_masks
        self.blend_coarse = blend_coarse
        self.search_margin = search_margin if self.device.type == "cpu" else None
        self.reset()

    @classmethod
    def from_protocol(cls, network: PropagationNetwork, protocol: str | None = None, **changes: Any) -> Self:
        """A segmenter by the name of a published protocol.

        Args:
            network: The network.
            protocol: "crw", "dino", "umec" or "umec_code", the settings of a published method; None for those of
                this class.
            **changes: Arguments of this class that differ from the protocol's; of `readout`, the settings that do.

        Raises:
            ConfigError: If the protocol or an argument is unknown, or a setting is out of its range.

        Example:
            >>> from vos_umec.models.factory import build_network
            >>> segmenter = VideoSegmenter.from_protocol(build_network("tiny"), "crw", readout={"top_k": 5})
            >>> segmenter.rounds, segmenter.repeat_first, segmenter.readout.top_k, segmenter.readout.radius
            (0, True, 5, 12)
        """
        if protocol not in (None, *PROTOCOLS):
            raise ConfigError(f"unknown protocol '{protocol}'; the protocols are {', '.join(PROTOCOLS)}")
        names = list(inspect.signature(cls).parameters)[1:]
        if unknown := changes.keys() - set(names):
            raise ConfigError(
                f"the segmenter has no setting {', '.join(sorted(unknown))}; "
                f"the settings are {', '.join(['protocol', *names])}, and of readout "
                f"{', '.join(Readout.__dataclass_fields__)}"
            )
        return cls(network, **change_settings(PROTOCOLS[protocol] if protocol else {}, changes))

    def reset(self) -> None:
        """Forget the video: the next frame is the first of another one."""
        self.ids: list[int] = []
        self.memory = self._new_memory()
        self._size: tuple[int, int] | None = None  # (H, W) of the video

    @torch.inference_mode()
    def remove(self, ids: Collection[int] | int) -> None:
        """Stop following some objects; their place in memory is freed, and later frames cost less.

        Memory of the other objects stays as it is, also where a removed one covered them before. Frames
        whose prompts were of removed objects alone leave the memory.

        Raises:
            ConfigError: If an id is not followed.
        """
        ids = object_ids(ids) or []
        if unknown := sorted(set(ids) - set(self.ids)):
            raise ConfigError(f"no object {', '.join(map(str, unknown))} is followed; those that are: {self.ids}")
        places = [self.ids.index(i) for i in set(ids)]
        self.ids = [i for i in self.ids if i not in ids]
        if self.ids:
            self.memory.remove(places)
        else:
            self.memory = self._new_memory()

    @overload
    def step(
        self,
        frame: np.ndarray,
        mask: MaskLike | None = None,
        ids: Collection[int] | int | None = None,
        return_probabilities: Literal[False] = False,
    ) -> np.ndarray: ...

    @overload
    def step(
        self,
        frame: np.ndarray,
        mask: MaskLike | None = None,
        ids: Collection[int] | int | None = None,
        *,
        return_probabilities: Literal[True],
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @torch.inference_mode()
    def step(
        self,
        frame: np.ndarray,
        mask: MaskLike | None = None,
        ids: Collection[int] | int | None = None,
        return_probabilities: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Segment the next frame, with or without a prompt.

        A prompt may come with any frame and for any subset of objects; new ids are new objects. The mask replaces
        earlier memory of the objects it contains; other objects are unaffected, but where it shows an object, no
        other one is.

        Args:
            frame: The next frame (H, W, 3) uint8 RGB, of the same size for the whole video.
            mask: Ids (H, W): an array, a tensor, a PIL image, nested lists, or a file for `read_mask`; 0 and 255
                name no object.
            ids: The objects that the mask is a prompt for. Other ids in it are ignored; an object that is named and
                not in it is not in the frame. Default: the ids in the mask.
            return_probabilities: Give the probabilities, too.

        Returns:
            The ids (H, W) uint8, 0 for background. With `return_probabilities`, also the probabilities (K+1, H, W)
            float32 of background and of each object, in the order of `self.ids`; they sum to 1.

        Raises:
            MaskError: If the mask's size differs from the frame's or its ids are not in 1 to 254.
            ConfigError: If the frame is no such array, or its size differs from the first one's.
        """
        check_frame(frame)
        mask, ids = mask_array(mask), object_ids(ids, mask is not None)
        size = (frame.shape[0], frame.shape[1])
        if self._size not in (None, size):
            raise ConfigError(
                f"this frame has {size} pixels (H, W) where the first one had {self._size}; "
                "call reset() before the first frame of another video"
            )
        image = self._prepare(frame)  # (1, 3, H', W')
        if mask is not None and ids is not None:
            mask = np.where(np.isin(mask, ids), mask, 0)
        objects = prompted_objects(mask, size, ids) if mask is not None else []
        if not self.ids and not objects:
            self._size = size
            nothing = np.zeros(size, np.uint8)
            return (nothing, np.ones((1, *size), np.float32)) if return_probabilities else nothing
        features = self._encode(image)
        key = features.key[0].permute(1, 2, 0)  # (h, w, D); no copy where E works in channels-last layout
        grid = (key.shape[0], key.shape[1])
        self.resizing.require_cells(grid, image)
        before = len(self.ids)
        self.ids.extend(i for i in objects if i not in self.ids)
        prompted = [self.ids.index(i) for i in objects]  # their places among all
        self._size = size  # only now: a frame that is refused leaves no trace
        refiner = self._refiner(image, features) if self.rounds else None
        p, given, vote = self._propagate(image, key, refiner)
        trust = agreement(vote, self.resizing.to_grid(p, grid)) if self.weigh_memory and not prompted else None
        if mask is not None:
            p, given, vote = self._overwrite(mask, prompted, p, given, vote)
        values = None if refiner is None else self._embed(refiner, given, vote, whole=bool(prompted))
        self.memory.forget([k for k in prompted if k < before])
        self.memory.add(key, vote.permute(1, 2, 0), values, prompted, trust)
        result, probabilities = frame_result(
            self.resizing.restore(p, size), self.ids, size, mask, self.stretch_masks
        )
        return (result, probabilities()) if return_probabilities else result

    def segment(
        self,
        source: Frames,
        masks: Mapping[Any, MaskLike],
        batch: int = 4,
        backward: bool = False,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Segment a whole video, yielding each frame's result as soon as it is ready.

        Args:
            source: The video: opened, or a path; or frames (H, W, 3) uint8, in a list, an array or an iterator.
            masks: Prompts by frame index or by the name of a frame; masks as `step` takes them.
            batch: Frames read at a time; the next ones are read while these are segmented.
            backward: Propagate the first prompt to the frames before it, too. They come first, from it to frame 0.

        Yields:
            (frame index, ids (H, W) uint8), for every frame in order; those before the first prompt are empty.

        Raises:
            ConfigError: If this segmenter is in the middle of a video, there is no mask, or a mask is of no frame.
        """
        if self._size is not None:
            raise ConfigError("this segmenter is in the middle of a video; call reset() before the next one")
        return segment_video(self, source, masks, batch, backward)

    def state(self) -> dict[str, Tensor]:
        """All that `step` has learnt of the video, as copies, for `restore`."""
        return self.memory.state() | {"ids": torch.tensor(self.ids), "size": torch.tensor(self._size or (0, 0))}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where a segmenter of the same network and settings was; the same frames give the same masks.

        Args:
            state: What its `state` gave.
        """
        self.reset()
        remembered = dict(state)
        self.ids = remembered.pop("ids").tolist()
        height, width = remembered.pop("size").tolist()
        self._size = (height, width) if height else None
        self.memory.restore(remembered, self.device)

    def _new_memory(self) -> ReferenceMemory:
        halve = self.readout.coarse_to_fine is not None
        return ReferenceMemory(self.references, halve, self.corrections, self.weigh_memory)

    def _prepare(self, frame: np.ndarray) -> Tensor:
        """The frame as E takes it (1, 3, H', W')."""
        pixels = torch.from_numpy(np.require(frame, requirements=["C", "W"]))  # (H, W, 3)
        return self.resizing.frame(send(pixels, self.device).permute(2, 0, 1)[None])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _encode(self, image: Tensor) -> Features:
        with self._autocast():
            return cast(Features, self.network.encoder(image))

    def _readout(self, key: Tensor) -> MemoryReadout:
        return read_memory(self.memory, key, self.readout, self.tau, self.repeat_first, self.search_margin)

    def _propagate(self, image: Tensor, key: Tensor, refiner: FrameRefiner | None) -> tuple[Tensor, Tensor, Tensor]:
        """The masks that memory gives: of the result and for V (K, H', W'), and for the vote (K, h, w)."""
        if not len(self.memory):
            p = image.new_zeros(len(self.ids), *image.shape[-2:])
            return p, p, image.new_zeros(len(self.ids), *key.shape[:2])
        found = self._readout(key)
        vote = coarse = self._remove_outliers(found.coarse(), found)  # (K', h, w), of the objects known before
        p = given = self.resizing.enlarge(coarse, (image.shape[-2], image.shape[-1]))  # (K', H', W')
        # Coarse masks are remembered as they were read: through the image and back, every frame would blur them.
        if refiner is not None:
            logits = self._refine(refiner, found, coarse, p)  # (K'+1, H', W')
            if self.blend_coarse:
                logits = (logits + torch.cat([1 - p.sum(dim=0, keepdim=True), p])) / 2
            p = self._remove_outliers(logits.softmax(dim=0)[1:], found)
            if self.memory_masks != "coarse":
                given = logits[1:] if self.blend_coarse else p
            if self.memory_masks == "final":
                vote = self.resizing.to_grid(p, (key.shape[0], key.shape[1]))
        new = (0, 0, 0, 0, 0, len(self.ids) - len(p))  # objects that are new in this frame come last
        return F.pad(p, new), F.pad(given, new), F.pad(vote, new)

    def _refine(self, refiner: FrameRefiner, found: MemoryReadout, coarse: Tensor, enlarged: Tensor) -> Tensor:
        """Logits of the background and of all objects propagated from the memory, at image size (K+1, H', W')."""
        with self._autocast():
            windows = object_windows(coarse, self.crop_margin)
            return refiner.refine(
                enlarged, windows, found.values, lambda k: found.evidence(k, self.tau), self.rounds
            )

    def _remove_outliers(self, masks: Tensor, found: MemoryReadout) -> Tensor:
        if self.max_extent is None:
            return masks
        permanent = self.resizing.enlarge(found.from_permanent(), (masks.shape[-2], masks.shape[-1]))
        return remove_outliers(masks, self.max_extent, permanent)

    def _refiner(self, image: Tensor, features: Features) -> FrameRefiner:
        with self._autocast():
            return FrameRefiner(cast(UMEC, self.network), image, features)  # the constructor refuses others

    def _embed(self, refiner: FrameRefiner, p: Tensor, masks: Tensor, whole: bool) -> Tensor:
        with self._autocast():
            return refiner.embed(p, object_windows(masks, None if whole else self.crop_margin))

    def _overwrite(
        self, mask: np.ndarray, prompted: list[int], p: Tensor, given: Tensor, vote: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The prompt replaces the masks of its objects; the others give way to it."""
        shown = torch.from_numpy(np.stack([mask == i for i in self.ids])).to(p.device).float()  # (K, H, W)
        prompt, prompt_vote = self.resizing.prompt(shown, (vote.shape[-2], vote.shape[-1]))
        replaced = torch.zeros(len(p), 1, 1, dtype=torch.bool, device=p.device)
        replaced[prompted] = True

        def over(masks: Tensor, prompt: Tensor) -> Tensor:
            room = (1 - prompt.sum(dim=0)).clamp(min=0)
            return torch.where(replaced, prompt, masks.minimum(masks * room))  # logits below 0 are absent already

        return over(p, prompt), over(given, prompt), over(vote, prompt_vote)
