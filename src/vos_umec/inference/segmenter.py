"""Segmenting one video from its masks, one call a frame (UMEC section 5)."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.device import multiplies_bf16
from vos_umec.errors import ConfigError
from vos_umec.inference.fusion import fuse_for_inference
from vos_umec.inference.given import check_frame, objects_of
from vos_umec.inference.memory import MemoryReadout, ReferenceMemory, read_memory
from vos_umec.inference.postprocess import remove_outliers
from vos_umec.inference.protocols import protocol_settings
from vos_umec.inference.refinement import FrameRefiner, object_windows
from vos_umec.io.frames import resized
from vos_umec.io.masks import read_mask
from vos_umec.io.pipeline import read_ahead
from vos_umec.io.source import FrameSource
from vos_umec.models.encoder import Features
from vos_umec.models.umec import UMEC, PropagationNetwork
from vos_umec.transforms.augment import normalize


class VideoSegmenter:
    """Carries masks through one video. One segmenter is one video; make a new one for the next.

    With `rounds=0` nothing but the encoder's affinity carries the masks: label propagation, the baseline of this
    field. With more, the frame-mask encoder and the decoder refine them; the final soft mask goes into memory.

    Args:
        network: A trained network; one without V and D (PropagationNetwork) works with `rounds=0`. The segmenter
            works with a copy of it as it is now, made ready for inference, on the same device (CPU, CUDA, MPS).
        rounds: R, refinement rounds.
        references: The last frames kept beside the ones that introduced an object.
        radius: Window on those last frames, in cells (strictly smaller Euclidean distance).
        permanent_radius: Window on the frames that introduced an object; None for no window.
        top_k: Cells read for each query cell, over all references jointly.
        tau: Temperature of the read-out; None for the network's own.
        mutual: Temperature at which a match loses weight whose reference cell is matched better elsewhere in the
            frame, see `top_k_affinity`; None for the paper's read-out.
        max_extent: Drop what lies farther from an object's place than so many times its size, see `remove_outliers`;
            None to keep it.
        coarse_memory: Remember the coarse masks and not the refined ones, for comparison.
        repeat_first: Until `references` frames have passed, let the frame that introduced an object stand in for
            each missing one, as published label propagation does. Its cells then crowd out others at first.
        short_side: Segment at this short side and give masks at the video's own size; None for the native size.
        crop_margin: Run V and D only where an object is seen and so many cells around it; None for the whole frame.
            Quicker by the area saved, but not the same to the digit. Measured on seven DAVIS sequences with a
            small trained network at 240p: J&F 66.6 on the whole frame, 67.0 with a margin of 2, 4 or 8 cells.
        bf16: Run the networks in bf16; keys, affinity and masks are fp32 in any case. None for wherever the
            hardware multiplies in bf16.

    Raises:
        ConfigError: If a setting is out of its range, or rounds are asked of a network without V and D.

    Example:
        >>> import numpy as np
        >>> from vos_umec.models.factory import build_network
        >>> segmenter = VideoSegmenter(build_network("tiny"), references=3)
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
        radius: float | None = 12,
        permanent_radius: float | None = None,
        top_k: int = 10,
        tau: float | None = None,
        mutual: float | None = None,
        max_extent: float | None = None,
        coarse_memory: bool = False,
        repeat_first: bool = False,
        short_side: int | None = None,
        crop_margin: int | None = 4,
        bf16: bool | None = None,
    ) -> None:
        if not isinstance(network, PropagationNetwork):
            raise ConfigError(f"{type(network).__name__} is no network; of a UMECModule, give its `.network`")
        for name, value, least in (("rounds", rounds, 0), ("references", references, 0), ("top_k", top_k, 1)):
            if value < least:
                raise ConfigError(f"{name} must be {least} or more; found {value}")
        if crop_margin is not None and crop_margin < 0:
            raise ConfigError(f"crop_margin must be 0 cells or more, or None for no cropping; found {crop_margin}")
        for name, reach in (("radius", radius), ("permanent_radius", permanent_radius)):
            if reach is not None and reach <= 0:
                raise ConfigError(f"{name} must be above 0 cells, or None for no window; found {reach}")
        if tau is not None and tau <= 0:
            raise ConfigError(f"tau must be above 0, or None for the network's own; found {tau}")
        if mutual is not None and mutual <= 0:
            raise ConfigError(f"mutual must be above 0, or None for no loss of one-sided matches; found {mutual}")
        if max_extent is not None and max_extent <= 0:
            raise ConfigError(f"max_extent must be above 0, or None to drop nothing; found {max_extent}")
        if rounds and not isinstance(network, UMEC):
            raise ConfigError(
                f"{rounds} rounds of refinement need a frame-mask encoder and a decoder, and this network is an "
                "encoder alone; give rounds=0 for label propagation, or a protocol of it (crw, dino)"
            )
        self.device = next(network.parameters()).device
        self.bf16 = multiplies_bf16(self.device) if bf16 is None else bf16
        self.network = fuse_for_inference(network, self.bf16)
        self.rounds = rounds
        self.radius = radius
        self.permanent_radius = permanent_radius
        self.top_k = top_k
        self.tau = network.tau if tau is None else tau
        self.mutual = mutual
        self.max_extent = max_extent
        self.repeat_first = repeat_first
        self.coarse_memory = coarse_memory
        self.short_side = short_side
        self.crop_margin = crop_margin
        self.ids: list[int] = []
        self.memory = ReferenceMemory(references)
        self._size: tuple[int, int] | None = None  # (H, W) of the video

    @classmethod
    def from_protocol(cls, network: PropagationNetwork, protocol: str | None = None, **changes: Any) -> Self:
        """A segmenter by the name of a published protocol.

        Args:
            network: The network.
            protocol: "crw", "dino" or "umec" (inference/protocols.py says what each repeats); None for the
                defaults of this class.
            **changes: Arguments of this class that differ from the protocol's.

        Raises:
            ConfigError: If the protocol or an argument is unknown, or a setting is out of its range.

        Example:
            >>> from vos_umec.models.factory import build_network
            >>> segmenter = VideoSegmenter.from_protocol(build_network("tiny"), "crw", top_k=5)
            >>> segmenter.rounds, segmenter.repeat_first, segmenter.top_k
            (0, True, 5)
        """
        settings = {} if protocol is None else protocol_settings(protocol)
        if unknown := changes.keys() - inspect.signature(cls).parameters.keys():
            raise ConfigError(
                f"the segmenter has no setting {', '.join(sorted(unknown))}; "
                f"the settings are {', '.join(['protocol', *list(inspect.signature(cls).parameters)[1:]])}"
            )
        return cls(network, **{**settings, **changes})

    @torch.inference_mode()
    def step(
        self, frame: np.ndarray, mask: np.ndarray | None = None, ids: Sequence[int] | None = None
    ) -> np.ndarray:
        """Take the next frame, with or without a mask, and segment it.

        A mask may come with any frame and for any subset of objects: of those that it names it is the whole truth,
        from here on too, for what earlier frames showed of them is forgotten; new ids are new objects, and of the
        others it says nothing.

        Args:
            frame: The next frame (H, W, 3) uint8 RGB, of the same size for the whole video.
            mask: Ids (H, W); 0 and 255 name no object.
            ids: The objects of which the mask speaks: of others it may show, nothing is taken, and of those it does
                not show, it says that they are not there. Default: the ids in it.

        Returns:
            The caller's ids (H, W) uint8, 0 for background.

        Raises:
            MaskError: If the mask's size differs from the frame's or its ids are not in 1 to 254.
            ConfigError: If the frame is no such array, or its size differs from the first one's.
        """
        check_frame(frame)
        size = (frame.shape[0], frame.shape[1])
        if self._size not in (None, size):
            raise ConfigError(
                f"this frame has {size} pixels (H, W) where the first one had {self._size}; "
                "use a new VideoSegmenter for another video"
            )
        image = self._prepare(frame)  # (1, 3, H', W')
        if mask is not None and ids is not None:
            mask = np.where(np.isin(mask, np.array(ids)), mask, 0)
        before = len(self.ids)
        told = self._note(objects_of(mask, size, ids)) if mask is not None else []
        self._size = size  # nothing is noted of a frame that is refused
        if not self.ids:
            return np.zeros(size, np.uint8)
        features = self._encode(image)
        key = features.key[0].permute(1, 2, 0)  # (h, w, D); no copy where E works in channels-last layout
        refiner = self._refiner(image, features) if self.rounds else None
        p = plain = self._nothing(image)  # (K, H', W')
        masks = None  # (K, h, w), where they are not those of p
        if len(self.memory):
            found = self._readout(key)
            coarse = self._remove_outliers(found.coarse(), found)  # (K', h, w), of the objects known before
            carried = plain = _enlarged(coarse, image)  # (K', H', W')
            if refiner is not None:
                carried = self._remove_outliers(self._refine(refiner, found, coarse), found)
            if refiner is None or self.coarse_memory:
                # What was carried is remembered as it is: through the image and back, it would blur every frame.
                masks = coarse
            p = torch.cat([carried, p[len(carried) :]])  # objects that are new in this frame come last
        if mask is not None:
            p, masks = self._overwrite(p, mask, told), None
        remembered = p if masks is None else plain
        masks = self.network.to_grid(p) if masks is None else masks
        values = None if refiner is None else self._embed(refiner, remembered, masks, whole=bool(told))
        self.memory.forget([k for k in told if k < before])
        self.memory.add(key, masks.permute(1, 2, 0), values, anchor=bool(told))
        return self._to_ids(p, mask)

    def segment(
        self, source: FrameSource, masks: Mapping[int, np.ndarray | Path], batch: int = 4
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Segment a whole video, yielding each frame's result as it is there.

        Args:
            source: The video.
            masks: Masks, or files of them, by frame index.
            batch: Frames read at a time; the next ones are read while these are worked on.

        Yields:
            (frame index, ids (H, W) uint8), for every frame in order.

        Raises:
            ConfigError: If this segmenter has segmented something before, or a mask is of no frame of the video.
        """
        if self._size is not None:
            raise ConfigError("this segmenter is in the middle of a video; make a new one for each")
        if astray := [index for index in masks if index not in range(len(source))]:
            raise ConfigError(
                f"a mask is given for frame {astray[0]!r}; the video has frames 0 to {len(source) - 1}, as numbers"
            )
        for index, frame in read_ahead(source, batch):
            given = masks.get(index)
            yield index, self.step(frame, read_mask(given) if isinstance(given, Path) else given)

    def _note(self, objects: list[int]) -> list[int]:
        """Note objects that a mask names, and give their places among all."""
        self.ids.extend(i for i in objects if i not in self.ids)
        return [self.ids.index(i) for i in objects]

    def _prepare(self, frame: np.ndarray) -> Tensor:
        """The frame as E takes it: resized, normalised, padded to whole cells (1, 3, H', W')."""
        pixels = torch.from_numpy(np.require(frame, requirements=["C", "W"]))  # (H, W, 3)
        image = pixels.to(self.device).permute(2, 0, 1)[None]  # (1, 3, H, W)
        return self._pad(self._shrink(normalize(image)))

    def _pad(self, x: Tensor) -> Tensor:
        """Up to whole cells. Frames and masks alike, or the border would show an object that the mask denies."""
        s = self.network.stride
        return F.pad(x, (0, -x.shape[-1] % s, 0, -x.shape[-2] % s), mode="replicate")

    def _shrink(self, x: Tensor) -> Tensor:
        size = resized((x.shape[-2], x.shape[-1]), self.short_side)
        if size == tuple(x.shape[-2:]):
            return x
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)

    def _nothing(self, image: Tensor) -> Tensor:
        return image.new_zeros(len(self.ids), *image.shape[-2:])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _encode(self, image: Tensor) -> Features:
        with self._autocast():
            features: Features = self.network.encoder(image)
        return features

    def _readout(self, key: Tensor) -> MemoryReadout:
        reach = self.radius, self.permanent_radius
        return read_memory(self.memory, key, self.top_k, self.tau, *reach, self.repeat_first, self.mutual)

    def _refine(self, refiner: FrameRefiner, found: MemoryReadout, coarse: Tensor) -> Tensor:
        """Masks of all objects carried from the memory, at image size (K, H', W')."""
        with self._autocast():
            return refiner.refine(coarse, object_windows(coarse, self.crop_margin), found.values, self.rounds)

    def _remove_outliers(self, masks: Tensor, found: MemoryReadout) -> Tensor:
        if self.max_extent is None:
            return masks
        return remove_outliers(masks, self.max_extent, _enlarged(found.from_anchors(), masks))

    def _refiner(self, image: Tensor, features: Features) -> FrameRefiner:
        with self._autocast():
            return FrameRefiner(cast(UMEC, self.network), image, features)  # rounds were refused to others

    def _embed(self, refiner: FrameRefiner, p: Tensor, masks: Tensor, whole: bool) -> Tensor:
        with self._autocast():
            return refiner.embed(p, object_windows(masks, None if whole else self.crop_margin))

    def _overwrite(self, p: Tensor, mask: np.ndarray, objects: list[int]) -> Tensor:
        """What a given mask says of its objects replaces what was carried; the others give way to it."""
        device = p.device
        told = torch.from_numpy(np.stack([mask == i for i in self.ids])).to(device).float()  # (K, H, W)
        told = self._pad(self._shrink(told[None]))[0]  # (K, H', W')
        room = (1 - told.sum(dim=0)).clamp(min=0)  # (H', W')
        speaks = torch.zeros(len(p), 1, 1, dtype=torch.bool, device=device)
        speaks[objects] = True
        return torch.where(speaks, told, p * room)

    def _to_ids(self, p: Tensor, mask: np.ndarray | None) -> np.ndarray:
        H, W = self._size or (0, 0)
        small = resized((H, W), self.short_side)
        p = p[:, : small[0], : small[1]]
        if small != (H, W):
            p = F.interpolate(p[None], size=(H, W), mode="bilinear", align_corners=False)[0]
        likeliest, object_ = p.max(dim=0)  # (H, W) each
        label = torch.where(likeliest > 1 - p.sum(dim=0), object_ + 1, 0).to(torch.uint8).cpu().numpy()
        result: np.ndarray = np.array([0, *self.ids], np.uint8)[label]
        if mask is not None:  # what was given comes back to the pixel
            told = (mask != 0) & (mask != IGNORE)
            result[told] = mask[told]
        return result


def _enlarged(coarse: Tensor, image: Tensor) -> Tensor:
    """Masks (K, h, w) at the image's size (K, H', W')."""
    return F.interpolate(coarse[None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
