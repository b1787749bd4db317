"""Segmenting one video from prompts, one call a frame (UMEC section 5)."""

import inspect
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.device import multiplies_bf16, send
from vos_umec.errors import ConfigError
from vos_umec.inference.fusion import fuse_for_inference
from vos_umec.inference.inputs import check_frame, prompted_objects
from vos_umec.inference.memory import MemoryReadout, ReferenceMemory, read_memory
from vos_umec.inference.postprocess import remove_outliers
from vos_umec.inference.protocols import PROTOCOLS, change_settings
from vos_umec.inference.refinement import FrameRefiner, object_windows
from vos_umec.io.frames import resized
from vos_umec.io.masks import read_mask
from vos_umec.io.pipeline import read_ahead
from vos_umec.io.source import FrameSource
from vos_umec.matching.readout import Readout
from vos_umec.models.encoder import Features
from vos_umec.models.umec import UMEC, PropagationNetwork
from vos_umec.transforms.augment import normalize


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
        memory_masks: "final" remembers the refined masks, "coarse" those before refinement.
        max_extent: Drop what is farther from an object's place than so many times its size, as `remove_outliers`
            does; None to keep it.
        repeat_first: Until `references` frames have passed, repeat the first frame that knows an object in place of
            each missing one, as published label propagation does. Its cells then displace others at first.
        short_side: Segment at this short side and give masks at the video's own size; None for the native size.
        crop_margin: Run V and D only where an object is seen and so many cells around it; None for the whole frame.
            "auto" is 4 on a CPU, where it is quicker by the area saved, and None elsewhere, for it asks where the
            objects are, and a GPU would be waited for twice a frame. The two are not the same to the digit (J&F of
            a small trained network on seven DAVIS sequences: 66.6 on the whole frame, 67.0 with a margin of 2, 4
            or 8 cells).
        bf16: Run the networks in bf16; keys, affinity and masks are fp32 in any case. None for wherever the
            hardware multiplies in bf16.

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
        memory_masks: Literal["final", "coarse"] = "final",
        max_extent: float | None = None,
        repeat_first: bool = False,
        short_side: int | None = None,
        crop_margin: int | Literal["auto"] | None = "auto",
        bf16: bool | None = None,
    ) -> None:
        if not isinstance(network, PropagationNetwork):
            raise ConfigError(f"{type(network).__name__} is no network; of a UMECModule, give its `.network`")
        for name, value in (("rounds", rounds), ("references", references)):
            if value < 0:
                raise ConfigError(f"{name} must be 0 or more; found {value}")
        if not (crop_margin in ("auto", None) or (isinstance(crop_margin, int) and crop_margin >= 0)):
            raise ConfigError(f"crop_margin must be 0 or more, 'auto' or None; found {crop_margin!r}")
        if memory_masks not in ("final", "coarse"):
            raise ConfigError(f"memory_masks must be 'final' or 'coarse'; found {memory_masks!r}")
        if max_extent is not None and max_extent <= 0:
            raise ConfigError(f"max_extent must be above 0, or None to drop nothing; found {max_extent}")
        if rounds and not isinstance(network, UMEC):
            raise ConfigError(
                f"{rounds} rounds of refinement need a frame-mask encoder and a decoder, and this network is an "
                "encoder alone; give rounds=0 for label propagation, or a protocol of it (crw, dino)"
            )
        self.readout = Readout.of(readout)
        if self.readout.top_k is None:
            raise ConfigError(
                "top_k None is for training: inference reads the best cells alone; give one, such as 10"
            )
        self.device = next(network.parameters()).device
        self.bf16 = multiplies_bf16(self.device) if bf16 is None else bf16
        self.network = fuse_for_inference(network, self.bf16)
        self.rounds = rounds
        self.references = references
        self.tau = network.tau if self.readout.tau is None else self.readout.tau
        self.memory_masks = memory_masks
        self.max_extent = max_extent
        self.repeat_first = repeat_first
        self.short_side = short_side
        if crop_margin == "auto":
            crop_margin = 4 if self.device.type == "cpu" else None
        self.crop_margin = crop_margin
        self.reset()

    @classmethod
    def from_protocol(cls, network: PropagationNetwork, protocol: str | None = None, **changes: Any) -> Self:
        """A segmenter by the name of a published protocol.

        Args:
            network: The network.
            protocol: "crw", "dino" or "umec", see inference/protocols.py; None for the defaults of this class.
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
        self.memory = ReferenceMemory(self.references)
        self._size: tuple[int, int] | None = None  # (H, W) of the video

    @torch.inference_mode()
    def remove(self, ids: Collection[int] | int) -> None:
        """Stop following some objects; their place in memory is freed, and later frames cost less.

        Memory of the other objects stays as it is, also where a removed one covered them before. Frames
        whose prompts were of removed objects alone leave the memory.

        Raises:
            ConfigError: If an id is not followed.
        """
        ids = [ids] if isinstance(ids, int) else ids
        if unknown := sorted(set(ids) - set(self.ids)):
            raise ConfigError(f"no object {', '.join(map(str, unknown))} is followed; those that are: {self.ids}")
        places = [self.ids.index(i) for i in set(ids)]
        self.ids = [i for i in self.ids if i not in ids]
        if self.ids:
            self.memory.remove(places)
        else:
            self.memory = ReferenceMemory(self.references)

    @overload
    def step(
        self,
        frame: np.ndarray,
        mask: np.ndarray | None = None,
        ids: Collection[int] | None = None,
        return_probabilities: Literal[False] = False,
    ) -> np.ndarray: ...

    @overload
    def step(
        self,
        frame: np.ndarray,
        mask: np.ndarray | None = None,
        ids: Collection[int] | None = None,
        *,
        return_probabilities: Literal[True],
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @torch.inference_mode()
    def step(
        self,
        frame: np.ndarray,
        mask: np.ndarray | None = None,
        ids: Collection[int] | None = None,
        return_probabilities: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Segment the next frame, with or without a prompt.

        A prompt may come with any frame and for any subset of objects; new ids are new objects. The mask replaces
        earlier memory of the objects it contains; other objects are unaffected, but where it shows an object, no
        other one is.

        Args:
            frame: The next frame (H, W, 3) uint8 RGB, of the same size for the whole video.
            mask: Ids (H, W); 0 and 255 name no object.
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
        size = (frame.shape[0], frame.shape[1])
        if self._size not in (None, size):
            raise ConfigError(
                f"this frame has {size} pixels (H, W) where the first one had {self._size}; "
                "call reset() before the first frame of another video"
            )
        image = self._prepare(frame)  # (1, 3, H', W')
        if mask is not None and ids is not None:
            mask = np.where(np.isin(mask, np.array(list(ids))), mask, 0)
        before = len(self.ids)
        prompted = self._note(prompted_objects(mask, size, ids)) if mask is not None else []
        self._size = size  # a frame that is refused leaves no trace
        if not self.ids:
            nothing = np.zeros(size, np.uint8)
            return (nothing, np.ones((1, *size), np.float32)) if return_probabilities else nothing
        features = self._encode(image)
        key = features.key[0].permute(1, 2, 0)  # (h, w, D); no copy where E works in channels-last layout
        refiner = self._refiner(image, features) if self.rounds else None
        p = plain = image.new_zeros(len(self.ids), *image.shape[-2:])  # (K, H', W')
        masks = None  # (K, h, w), where they are not those of p
        if len(self.memory):
            found = self._readout(key)
            coarse = self._remove_outliers(found.coarse(), found)  # (K', h, w), of the objects known before
            propagated = plain = _enlarged(coarse, image)  # (K', H', W')
            if refiner is not None:
                propagated = self._remove_outliers(self._refine(refiner, found, coarse), found)
            if refiner is None or self.memory_masks == "coarse":
                # Remembered as they were read: through the image and back, every frame would blur them.
                masks = coarse
            p = torch.cat([propagated, p[len(propagated) :]])  # objects that are new in this frame come last
        if mask is not None:
            p, masks = self._overwrite(p, mask, prompted), None
        remembered = p if masks is None else plain
        masks = self.network.to_grid(p) if masks is None else masks
        values = None if refiner is None else self._embed(refiner, remembered, masks, whole=bool(prompted))
        self.memory.forget([k for k in prompted if k < before])
        self.memory.add(key, masks.permute(1, 2, 0), values, prompted)
        return self._result(p, mask, return_probabilities)

    def segment(
        self, source: FrameSource, masks: Mapping[int, np.ndarray | Path], batch: int = 4
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Segment a whole video, yielding each frame's result as soon as it is ready.

        Args:
            source: The video.
            masks: Prompts by frame index: masks, or files of them.
            batch: Frames read at a time; the next ones are read while these are segmented.

        Yields:
            (frame index, ids (H, W) uint8), for every frame in order.

        Raises:
            ConfigError: If this segmenter is in the middle of a video, or a mask is of no frame of this one.
        """
        if self._size is not None:
            raise ConfigError("this segmenter is in the middle of a video; call reset() before the next one")
        if wrong := [index for index in masks if index not in range(len(source))]:
            raise ConfigError(
                f"there is a mask for frame {wrong[0]!r}; the video has frames 0 to {len(source) - 1}, as numbers"
            )
        for index, frame in read_ahead(source, batch):
            mask = masks.get(index)
            yield index, self.step(frame, read_mask(mask) if isinstance(mask, Path) else mask)

    def _note(self, objects: list[int]) -> list[int]:
        """Follow the objects of a prompt; give their places among all."""
        self.ids.extend(i for i in objects if i not in self.ids)
        return [self.ids.index(i) for i in objects]

    def _prepare(self, frame: np.ndarray) -> Tensor:
        """The frame as E takes it: resized, normalised, padded to whole cells (1, 3, H', W')."""
        pixels = torch.from_numpy(np.require(frame, requirements=["C", "W"]))  # (H, W, 3)
        image = send(pixels, self.device).permute(2, 0, 1)[None]  # (1, 3, H, W)
        return self._pad(self._shrink(normalize(image)))

    def _pad(self, x: Tensor) -> Tensor:
        """Up to whole cells. Frames and masks alike, or a frame would show an object where its mask has none."""
        s = self.network.stride
        return F.pad(x, (0, -x.shape[-1] % s, 0, -x.shape[-2] % s), mode="replicate")

    def _shrink(self, x: Tensor) -> Tensor:
        size = resized((x.shape[-2], x.shape[-1]), self.short_side)
        if size == tuple(x.shape[-2:]):
            return x
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _encode(self, image: Tensor) -> Features:
        with self._autocast():
            features: Features = self.network.encoder(image)
        return features

    def _readout(self, key: Tensor) -> MemoryReadout:
        return read_memory(self.memory, key, self.readout, self.tau, self.repeat_first)

    def _refine(self, refiner: FrameRefiner, found: MemoryReadout, coarse: Tensor) -> Tensor:
        """Masks of all objects propagated from the memory, at image size (K, H', W')."""
        with self._autocast():
            return refiner.refine(coarse, object_windows(coarse, self.crop_margin), found.values, self.rounds)

    def _remove_outliers(self, masks: Tensor, found: MemoryReadout) -> Tensor:
        if self.max_extent is None:
            return masks
        return remove_outliers(masks, self.max_extent, _enlarged(found.from_permanent(), masks))

    def _refiner(self, image: Tensor, features: Features) -> FrameRefiner:
        with self._autocast():
            return FrameRefiner(cast(UMEC, self.network), image, features)  # the constructor refuses others

    def _embed(self, refiner: FrameRefiner, p: Tensor, masks: Tensor, whole: bool) -> Tensor:
        with self._autocast():
            return refiner.embed(p, object_windows(masks, None if whole else self.crop_margin))

    def _overwrite(self, p: Tensor, mask: np.ndarray, prompted: list[int]) -> Tensor:
        """The prompt replaces the masks of its objects; the others give way to it."""
        prompt = torch.from_numpy(np.stack([mask == i for i in self.ids])).to(p.device).float()  # (K, H, W)
        prompt = self._pad(self._shrink(prompt[None]))[0]  # (K, H', W')
        room = (1 - prompt.sum(dim=0)).clamp(min=0)  # (H', W')
        replaced = torch.zeros(len(p), 1, 1, dtype=torch.bool, device=p.device)
        replaced[prompted] = True
        return torch.where(replaced, prompt, p * room)

    def _result(
        self, p: Tensor, mask: np.ndarray | None, return_probabilities: bool
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        H, W = self._size or (0, 0)
        small = resized((H, W), self.short_side)
        p = p[:, : small[0], : small[1]]
        if small != (H, W):
            p = F.interpolate(p[None], size=(H, W), mode="bilinear", align_corners=False)[0]
        background = 1 - p.sum(dim=0)  # (H, W)
        likeliest, object_ = p.max(dim=0)  # (H, W) each
        label = torch.where(likeliest > background, object_ + 1, 0).to(torch.uint8).cpu().numpy()
        ids: np.ndarray = np.array([0, *self.ids], np.uint8)[label]
        if mask is not None:  # a prompt comes back to the pixel
            shown = (mask != 0) & (mask != IGNORE)
            ids[shown] = mask[shown]
        if not return_probabilities:
            return ids
        probabilities = torch.cat([background[None], p]).float().clamp(min=0).cpu().numpy()  # (K+1, H, W)
        if mask is not None:
            probabilities[:, shown] = np.array([0, *self.ids])[:, None] == ids[shown]
        return ids, probabilities


def _enlarged(coarse: Tensor, image: Tensor) -> Tensor:
    """Masks (K, h, w) at the image's size (K, H', W')."""
    return F.interpolate(coarse[None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
