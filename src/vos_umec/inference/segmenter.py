"""Segmenting one video from its masks, one call a frame (UMEC section 5)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.data.augment import normalize
from vos_umec.errors import ConfigError, MaskError
from vos_umec.inference.memory import ReferenceMemory
from vos_umec.inference.readout import gather_values, top_k_affinity
from vos_umec.io.masks import read_mask
from vos_umec.io.source import FrameSource, resized
from vos_umec.models.encoder import Features
from vos_umec.models.umec import UMEC

_VOID = 255  # "nothing known here" in DAVIS annotations, never an object


class VideoSegmenter:
    """Carries masks through one video. One segmenter is one video; make a new one for the next.

    With `rounds=0` nothing but the encoder's affinity carries the masks: label propagation, the baseline of this
    field. With more, the frame-mask encoder and the decoder refine them; the final soft mask goes into memory.

    Args:
        network: A trained network; it is put into evaluation mode and used where it lies (CPU, CUDA, MPS).
        rounds: R, refinement rounds.
        references: The last frames kept beside the ones that introduced an object.
        radius: Window on those last frames, in cells (strictly smaller Euclidean distance).
        anchor_radius: Window on the frames that introduced an object; None for no window.
        top_k: Cells read for each query cell, over all references jointly.
        short_side: Segment at this short side and give masks at the video's own size; None for the native size.

    Raises:
        ConfigError: If a setting is out of its range.

    Example:
        >>> import numpy as np
        >>> from vos_umec.models.presets import network_from_preset
        >>> segmenter = VideoSegmenter(network_from_preset("tiny"), references=3)
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
        network: UMEC,
        rounds: int = 3,
        references: int = 20,
        radius: float | None = 12,
        anchor_radius: float | None = None,
        top_k: int = 10,
        short_side: int | None = None,
    ) -> None:
        for name, value, least in (("rounds", rounds, 0), ("references", references, 0), ("top_k", top_k, 1)):
            if value < least:
                raise ConfigError(f"{name} must be {least} or more; found {value}")
        for name, reach in (("radius", radius), ("anchor_radius", anchor_radius)):
            if reach is not None and reach <= 0:
                raise ConfigError(f"{name} must be above 0 cells, or None for no window; found {reach}")
        self.network = network.eval()
        self.rounds = rounds
        self.radius = radius
        self.anchor_radius = anchor_radius
        self.top_k = top_k
        self.short_side = short_side
        self.ids: list[int] = []
        self.memory = ReferenceMemory(references)
        self._size: tuple[int, int] | None = None  # (H, W) of the video

    @torch.inference_mode()
    def step(
        self, frame: np.ndarray, mask: np.ndarray | None = None, ids: Sequence[int] | None = None
    ) -> np.ndarray:
        """Take the next frame, with or without a mask, and segment it.

        A mask may come with any frame and for any subset of objects: what it says is taken as it is, new ids are
        new objects, and 0 means that it says nothing there.

        Args:
            frame: The next frame (H, W, 3) uint8 RGB, of the same size for the whole video.
            mask: Ids (H, W); 0 and 255 say nothing.
            ids: The objects of which the mask speaks, where that is more than it shows (an object that it says
                is not there). Default: the ids in it.

        Returns:
            The caller's ids (H, W) uint8, 0 for background.

        Raises:
            MaskError: If the mask's size differs from the frame's or its ids are not in 1 to 254.
            ConfigError: If the frame's size differs from the first one's.
        """
        size = (frame.shape[0], frame.shape[1])
        if self._size not in (None, size):
            raise ConfigError(
                f"this frame has {size} pixels (H, W) where the first one had {self._size}; "
                "use a new VideoSegmenter for another video"
            )
        self._size = size
        new = self._read_ids(size, mask, ids)
        if not self.ids:
            return np.zeros(size, np.uint8)
        image = self._prepare(frame)  # (1, 3, H', W')
        features = self.network.encoder(image)
        p, masks = self._nothing(image), None  # (K, H', W'), (h, w, K)
        if len(self.memory):
            carried, coarse = self._carry(image, features)
            p = torch.cat([carried, p[len(carried) :]])  # objects that are new in this frame come last
            # Label propagation remembers what it carried; through the image and back, it would blur every frame.
            masks = coarse if self.rounds == 0 else None
        if mask is not None:
            p, masks = self._overwrite(p, mask, ids), None
        masks = self.network.to_grid(p).permute(1, 2, 0) if masks is None else masks
        self._remember(image, features, p, masks, anchor=new)
        return self._to_ids(p, mask)

    def segment(
        self, source: FrameSource, masks: Mapping[int, np.ndarray | Path], batch: int = 8
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Segment a whole video, yielding each frame's result as it is there.

        Args:
            source: The video.
            masks: Masks, or files of them, by frame index.
            batch: Frames read at a time.

        Yields:
            (frame index, ids (H, W) uint8), for every frame in order.
        """
        for start in range(0, len(source), batch):
            indices = range(start, min(start + batch, len(source)))
            for index, frame in zip(indices, source.read(indices), strict=True):
                given = masks.get(index)
                yield index, self.step(frame, read_mask(given) if isinstance(given, Path) else given)

    def _read_ids(self, size: tuple[int, int], mask: np.ndarray | None, ids: Iterable[int] | None) -> bool:
        """Note the objects a mask names; True if one of them is new."""
        if mask is None:
            return False
        if mask.shape != size:
            raise MaskError(
                f"the mask has shape {mask.shape} where its frame has {size} (H, W); "
                "give the mask at the frame's own size"
            )
        spoken = sorted(_spoken(mask, ids))
        if spoken and not 1 <= spoken[0] <= spoken[-1] < _VOID:
            raise MaskError(f"object ids must lie in 1 to 254; found {spoken[0]} to {spoken[-1]}")
        new = [i for i in spoken if i not in self.ids]
        self.ids.extend(new)
        return bool(new)

    def _prepare(self, frame: np.ndarray) -> Tensor:
        """The frame as E takes it: resized, normalised, padded to whole cells (1, 3, H', W')."""
        device = next(self.network.parameters()).device
        image = torch.from_numpy(np.ascontiguousarray(frame)).to(device).permute(2, 0, 1)[None]  # (1, 3, H, W)
        image = self._shrink(normalize(image))
        s = self.network.stride
        return F.pad(image, (0, -image.shape[-1] % s, 0, -image.shape[-2] % s), mode="replicate")

    def _shrink(self, x: Tensor) -> Tensor:
        size = resized((x.shape[-2], x.shape[-1]), self.short_side)
        if size == tuple(x.shape[-2:]):
            return x
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)

    def _nothing(self, image: Tensor) -> Tensor:
        return image.new_zeros(len(self.ids), *image.shape[-2:])

    def _carry(self, image: Tensor, features: Features) -> tuple[Tensor, Tensor]:
        """Masks of all objects carried from the memory: at image size (K, H', W'), and coarse (h, w, K)."""
        memory = self.memory
        key = features.key[0].permute(1, 2, 0)  # (h, w, D)
        h, w, _ = key.shape
        K = memory.masks.shape[-1]
        coarse = key.new_zeros(h * w, K)
        V_q = memory.values.new_zeros(h * w, *memory.values.shape[3:]) if self.rounds else None  # (h*w, K, Dv)
        # References that do not know an object must not vote against it: each group has an affinity of its own.
        for rows, anchors, objects in memory.groups():
            keys = memory.keys[rows]
            best = top_k_affinity(key, keys, anchors, self.top_k, self.network.tau, self.radius, self.anchor_radius)
            coarse[:, objects] = gather_values(best, memory.masks[rows][..., objects])
            if V_q is not None:
                values = memory.values[rows][..., objects, :]  # (N, h, w, K', Dv)
                V_q[:, objects] = gather_values(best, values.flatten(3)).view(h * w, *values.shape[3:])
        Ybar = coarse.T.reshape(1, K, h, w)
        if V_q is None:
            p = F.interpolate(Ybar, scale_factor=self.network.stride, mode="bilinear", align_corners=False)[0]
        else:
            V_q = V_q.permute(1, 2, 0).reshape(1, K, -1, h, w)
            logits = self.network.decode(image, features, V_q, Ybar, self.rounds)
            p = logits[-1].softmax(dim=1)[0, 1:]  # (K, H', W')
        return p, coarse.view(h, w, K)

    def _overwrite(self, p: Tensor, mask: np.ndarray, ids: Sequence[int] | None) -> Tensor:
        """What a given mask says of its objects replaces what was carried; the others give way to it."""
        device, spoken = p.device, _spoken(mask, ids)
        told = torch.from_numpy(np.stack([mask == i for i in self.ids])).to(device).float()  # (K, H, W)
        told = self._shrink(told[None])[0]
        told = F.pad(told, (0, p.shape[-1] - told.shape[-1], 0, p.shape[-2] - told.shape[-2]))
        room = (1 - told.sum(dim=0)).clamp(min=0)  # (H', W')
        speaks = torch.tensor([i in spoken for i in self.ids], device=device)[:, None, None]
        return torch.where(speaks, told, p * room)

    def _remember(self, image: Tensor, features: Features, p: Tensor, masks: Tensor, anchor: bool) -> None:
        values = None
        if self.rounds:
            values = self.network.embed(image, features, p[None])[0].permute(2, 3, 0, 1)  # (h, w, K, Dv)
        self.memory.add(features.key[0].permute(1, 2, 0), masks, values, anchor)

    def _to_ids(self, p: Tensor, mask: np.ndarray | None) -> np.ndarray:
        H, W = self._size or (0, 0)
        small = resized((H, W), self.short_side)
        p = p[:, : small[0], : small[1]]
        if small != (H, W):
            p = F.interpolate(p[None], size=(H, W), mode="bilinear", align_corners=False)[0]
        background = 1 - p.sum(dim=0, keepdim=True)
        label = torch.cat([background, p]).argmax(dim=0).cpu().numpy()  # (H, W), 0 to K
        result: np.ndarray = np.array([0, *self.ids], np.uint8)[label]
        if mask is not None:  # what was given comes back to the pixel
            told = (mask != 0) & (mask != _VOID)
            result[told] = mask[told]
        return result


def _spoken(mask: np.ndarray, ids: Iterable[int] | None) -> set[int]:
    """The objects of which a mask speaks."""
    return {int(i) for i in (np.unique(mask) if ids is None else ids)} - {0, _VOID}
