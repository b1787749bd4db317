"""The frame-mask encoder and the decoder on one frame of a video, each object inside its window."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_umec.inference.windows import Window
from vos_umec.models.aggregation import soft_aggregate
from vos_umec.models.encoder import Features
from vos_umec.models.mask_encoder import FrameShare
from vos_umec.models.umec import UMEC

CPU_OBJECTS, OTHER_OBJECTS = 1, 8
"""Objects that go through V and D at once; on a CPU the convolutions alone were quickest one at a time."""


class FrameRefiner:
    """V and D on one frame (UMEC eq. 3, 5, 6).

    Over whole-grid windows this computes what `UMEC.embed` and `UMEC.decode` do. Smaller windows save time in
    proportion to their area, at a price: V and D see zeros beyond the border, and the mask outside is nothing.

    Args:
        network: The network.
        image: The normalised frame (1, 3, H, W).
        features: E's features of it.

    Example:
        >>> from vos_umec.models.presets import network_from_preset
        >>> network, image = network_from_preset("tiny").eval(), torch.rand(1, 3, 32, 32)
        >>> with torch.inference_mode():
        ...     refiner = FrameRefiner(network, image, network.encoder(image))
        ...     values = refiner.embed(torch.rand(2, 32, 32), [Window(0, 0, 8, 8), Window(2, 2, 4, 4)])
        >>> tuple(values.shape)
        (8, 8, 2, 48)
    """

    def __init__(self, network: UMEC, image: Tensor, features: Features) -> None:
        self.network = network
        self.most = CPU_OBJECTS if image.device.type == "cpu" else OTHER_OBJECTS
        self.skips = features.skips
        self.image = image
        self.share = network.mask_encoder.share(image, features.trunk)
        self.size = (image.shape[-2], image.shape[-1])
        self.grid = (features.trunk.shape[-2], features.trunk.shape[-1])

    def embed(self, masks: Tensor, windows: Sequence[Window]) -> Tensor:
        """V([I, Y]) of every object.

        Args:
            masks: Soft masks (K, H, W) in [0, 1].
            windows: K windows.

        Returns:
            Mask embeddings (h, w, K, Dv), zero outside an object's window.
        """
        Dv = self.share.trunk.shape[1]
        values = self.share.trunk.new_zeros(*self.grid, len(masks), Dv)
        for k in _groups(windows, self.most):
            found = self.network.mask_encoder.embed(self._share(windows, k), self._masks(masks, windows, k))
            for i, one in zip(k, found, strict=True):  # one (Dv, h', w')
                windows[i].cut(values[:, :, i].permute(2, 0, 1), self.grid[0]).copy_(one)
        return values

    def refine(
        self,
        coarse: Tensor,
        windows: Sequence[Window],
        carried: Callable[[int, Window], Tensor],
        rounds: int,
    ) -> Tensor:
        """Yhat^R from the coarse masks.

        Args:
            coarse: Ybar_q, the coarse masks (K, h, w) in [0, 1].
            windows: K windows.
            carried: Gives V_q of one object inside its window, (Dv, h', w').
            rounds: R, 1 or more.

        Returns:
            Aggregated masks (K, H, W), fp32; zero outside the windows.
        """
        h, D = self.grid[0], self.network.decoder
        masks = F.interpolate(coarse[None].float(), size=self.size, mode="bilinear", align_corners=False)
        masks = masks[0].clamp(0, 1)
        skips = D.share(self.skips, self.image)
        fixed = []  # what no round changes
        for k in _groups(windows, self.most):
            V_q = torch.stack([carried(i, windows[i]) for i in k])
            fixed.append((k, self._share(windows, k), [_rows(x, windows, k, h) for x in skips], D.carry(V_q)))
        for _ in range(rounds):
            p = torch.zeros_like(masks)
            for k, share, skip, first in fixed:
                mask = self._masks(masks, windows, k)
                logits = D(first, self.network.mask_encoder.embed(share, mask), skip, mask)  # (n, 1, H', W')
                for i, one in zip(k, logits.sigmoid(), strict=True):
                    windows[i].cut(p[i], h).copy_(one[0])
            masks = soft_aggregate(p[None]).softmax(dim=1)[0, 1:]
        return masks

    def _masks(self, masks: Tensor, windows: Sequence[Window], k: Sequence[int]) -> Tensor:
        return torch.stack([windows[i].cut(masks[i : i + 1], self.grid[0]) for i in k])  # (n, 1, H', W')

    def _share(self, windows: Sequence[Window], k: Sequence[int]) -> FrameShare:
        rgb, trunk = (_rows(x, windows, k, self.grid[0]) for x in (self.share.rgb, self.share.trunk))
        return FrameShare(rgb, trunk)


def _rows(x: Tensor, windows: Sequence[Window], k: Sequence[int], h: int) -> Tensor:
    """A frame's map (1, C, H, W) cut to each object's window; one row where all windows are one."""
    different = list(dict.fromkeys(windows[i] for i in k))
    if len(different) == 1:
        return different[0].cut(x, h)
    return torch.cat([windows[i].cut(x, h) for i in k])


def _groups(windows: Sequence[Window], most: int) -> list[list[int]]:
    """The objects, those with windows of one size together, `most` at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, window in enumerate(windows):
        groups.setdefault((window.height, window.width), []).append(i)
    return [group[j : j + most] for group in groups.values() for j in range(0, len(group), most)]
