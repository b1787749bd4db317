"""The encoder E: keys for correspondence, trunk features and skips for segmentation (UMEC eq. 2)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.errors import ConfigError
from vos_umec.models.published import load_published
from vos_umec.models.resnet import ResNetTrunk
from vos_umec.transforms.color import to_lab

_SEEN: Mapping[str, Callable[[Tensor], Tensor]] = {
    "rgb": lambda x: x,
    "lab": to_lab,
    "grey": lambda x: to_lab(x)[:, :1].expand_as(x),  # in three channels, as trunks take
}


@dataclass(frozen=True)
class Features:
    """E's output for a batch of frames.

    Attributes:
        key: Unit-norm keys I (B, D, h, w).
        trunk: Features of the last stage (B, C, h, w), joined into the frame-mask encoder.
        skips: Earlier features for the decoder, coarse to fine, each (B, C_i, h_i, w_i).
    """

    key: Tensor
    trunk: Tensor
    skips: tuple[Tensor, ...]

    def __getitem__(self, rows: slice | Tensor) -> "Features":
        """The same features for some rows of the batch."""
        return Features(self.key[rows], self.trunk[rows], tuple(skip[rows] for skip in self.skips))


class Encoder(nn.Module, ABC):
    """Base of every encoder E. A subclass sets four attributes in its constructor and implements `forward`.

    Attributes:
        stride: s, pixels to a side of a cell.
        key_dim: D, width of the keys.
        trunk_dim: C, width of the trunk features.
        skip_dims: Channels of the skips, coarse to fine; empty if there are none.

    Example:
        >>> class Average(Encoder):
        ...     stride, key_dim, trunk_dim, skip_dims = 8, 3, 3, ()
        ...     def forward(self, x):
        ...         means = F.avg_pool2d(x, self.stride)
        ...         return Features(key=F.normalize(means, dim=1), trunk=means, skips=())
        >>> tuple(Average()(torch.rand(2, 3, 32, 48)).key.shape)
        (2, 3, 4, 6)
    """

    stride: int
    key_dim: int
    trunk_dim: int
    skip_dims: tuple[int, ...]

    @abstractmethod
    def forward(self, x: Tensor) -> Features:
        """Encode frames.

        Args:
            x: Frames (B, 3, H, W), normalised with ImageNet's mean and deviation, sides multiples of `stride`.

        Returns:
            Keys, trunk features and skips.
        """

    def load_weights(self, source: str | Path) -> None:
        """Fill the backbone with weights that somebody else trained; the log lists what became of their tensors.

        Args:
            source: A file.

        Raises:
            ConfigError: If this kind of encoder takes no such weights.
            CheckpointError: If the file cannot be read or is of another backbone.
        """
        raise ConfigError(
            f"{type(self).__name__} takes no published weights (found {source}); a ResNetEncoder, a TrunkEncoder "
            "or a TimmEncoder does"
        )


class ResNetEncoder(Encoder):
    """A ResNet trunk and a 1x1-conv MLP head that ends in unit-norm keys.

    With more than one pyramid weight, keys come from a pyramid of the frame: the same trunk and head see it at half
    the size, at a quarter and so on, and the keys of all levels are joined, so that the affinity is the weighted
    mean of theirs. This gives a small trunk more context, for a quarter more work in the second level. Objects that
    are small in the coarsest level need a larger frame, or a low weight for that level.

    Args:
        blocks: Residual blocks in each stage, 2 to 4 stages.
        strides: Stride of each stage on top of the stem's 4, or 2 without pooling.
        bottleneck: Bottleneck blocks, as ResNet-50 has.
        key_dim: Key width of one level; D is this times the number of levels.
        trunk_dim: Width to which a 1x1 conv reduces the trunk; None keeps the last stage's width.
        width: Channels of the first stage, doubled from stage to stage; or those of each stage.
        pool: Max pooling of stride 2 at the end of the stem.
        color: Input of the trunk, made from RGB frames: "rgb"; "lab", lightness apart from color; or "grey",
            lightness alone, which an encoder trained by colorization needs in inference too.
        pyramid_weights: Weight in the affinity, above 0, of each level of the pyramid that keys are made of, the
            frame itself first; one level for no pyramid. The trunk features and skips are the first one's.
        padding: What the trunk's convs see beyond the border: "zeros", or "reflect", the frame mirrored.

    Raises:
        ConfigError: If there are too few stages, no level or one of no weight, or an unknown color.

    Example:
        >>> import torch
        >>> E = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=16)
        >>> f = E(torch.rand(2, 3, 32, 48))
        >>> tuple(f.key.shape), E.stride, torch.allclose(f.key.norm(dim=1), torch.ones(2, 8, 12))
        ((2, 16, 8, 12), 4, True)
    """

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2, 2),
        strides: Sequence[int] = (1, 2, 1, 1),
        bottleneck: bool = False,
        key_dim: int = 128,
        trunk_dim: int | None = None,
        width: int | Sequence[int] = 64,
        pool: bool = True,
        color: Literal["rgb", "lab", "grey"] = "rgb",
        pyramid_weights: Sequence[float] = (1.0,),
        padding: Literal["zeros", "reflect"] = "zeros",
    ) -> None:
        super().__init__()
        if len(blocks) < 2:
            raise ConfigError(f"the encoder needs at least 2 stages for its skips; found blocks {tuple(blocks)}")
        if color not in _SEEN:
            raise ConfigError(f"an encoder sees {', '.join(_SEEN)}; found color '{color}'")
        if not pyramid_weights or min(pyramid_weights) <= 0:
            raise ConfigError(
                f"pyramid_weights are one number above 0 for each level, as [1.0, 0.5]; found {pyramid_weights}"
            )
        self.color = color
        self.pyramid_weights = tuple(pyramid_weights)
        self.net = ResNetTrunk(blocks, strides, bottleneck, width=width, pool=pool, padding=padding)
        channels = self.net.channels[-1]
        self.reduce = nn.Identity() if trunk_dim is None else _conv_bn_relu(channels, trunk_dim)
        self.stride = self.net.stride
        self.key_dim = key_dim * len(pyramid_weights)
        self.trunk_dim = trunk_dim or channels
        self.skip_dims = (self.net.channels[1], self.net.channels[0])
        self.head = nn.Sequential(
            *_conv_bn_relu(self.trunk_dim, self.trunk_dim), nn.Conv2d(self.trunk_dim, key_dim, kernel_size=1)
        )

    def forward(self, x: Tensor) -> Features:
        """Encode frames; the skips are the second and the first stage (1/8 and 1/4 in ResNet-18)."""
        seen = _SEEN[self.color](x)
        stages = self.net(seen)
        trunk = self.reduce(stages[-1])  # (B, C, h, w)
        key = self._key(trunk)
        if len(self.pyramid_weights) > 1:
            keys = [key, *self._wider_keys(seen, key)]
            weighted = [weight**0.5 * each for weight, each in zip(self.pyramid_weights, keys, strict=True)]
            key = F.normalize(torch.cat(weighted, dim=1), dim=1)  # (B, D, h, w)
        return Features(key=key, trunk=trunk, skips=(stages[1], stages[0]))

    def load_weights(self, source: str | Path) -> None:
        """Fill the encoder from a published file of CRW, VFS, DUL, UMEC, MAST, MoCo, DINO, UVC or torchvision.

        The trunk is filled from all of them, and what makes keys of it where the file has the same.
        """
        load_published(self, source)

    def _key(self, trunk: Tensor) -> Tensor:
        return F.normalize(self.head(trunk).float(), dim=1)  # fp32 under autocast too

    def _wider_keys(self, seen: Tensor, like: Tensor) -> Iterator[Tensor]:
        """Keys of the frame at half the size, at a quarter and so on, enlarged to the grid of `like`."""
        for _ in self.pyramid_weights[1:]:
            size = [half_the_cells(n, self.stride) * self.stride for n in seen.shape[-2:]]
            seen = F.interpolate(seen, size=size, mode="bilinear", align_corners=False)
            wider = self._key(self.reduce(self.net(seen)[-1]))
            yield F.interpolate(wider, size=like.shape[-2:], mode="bilinear", align_corners=False)


def half_the_cells(pixels: int, stride: int) -> int:
    """`round(pixels / 2 / stride)`, at least 1, in whole numbers, which torch.export can follow.

    Example:
        >>> [half_the_cells(4 * cells, stride=4) for cells in (1, 2, 3, 5, 7)]
        [1, 1, 2, 2, 4]
    """
    nearest = (pixels + stride) // (2 * stride)
    if pixels % stride == 0:  # of two that are as near the even one
        cells = pixels // stride
        nearest = cells // 2 + cells % 2 * (cells // 2 % 2)
    return max(1, nearest)


def _conv_bn_relu(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class TrunkEncoder(ResNetEncoder):
    """A ResNet trunk whose last stage's unit-norm features are the keys.

    CRW, VFS and DINO's ResNet are evaluated in this way (CRW: the third stage of ResNet-18, the default here,
    s = 8). Their heads serve training only.

    Args:
        blocks: Residual blocks in each stage, up to the stage that is read; 2 to 4 stages.
        strides: Stride of each stage on top of the stem's 4.
        bottleneck: Bottleneck blocks, as ResNet-50 has.
        padding: What convs see beyond the border: "zeros", or "reflect", the frame mirrored, which CRW's own files
            want.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2),
        strides: Sequence[int] = (1, 2, 1),
        bottleneck: bool = False,
        padding: Literal["zeros", "reflect"] = "zeros",
    ) -> None:
        super().__init__(blocks, strides, bottleneck, padding=padding)
        self.head = nn.Sequential()
        self.key_dim = self.trunk_dim


class MASTEncoder(ResNetEncoder):
    """MAST's encoder: a ResNet-18 on Lab without pooling, s = 4, whose last stage is as wide as the third.

    A 3x3 conv makes 64 channels of it, the keys. MAST compares them as they are (Lai et al., CVPR 2020); here they
    have unit norm, as all keys have.
    """

    def __init__(self) -> None:
        super().__init__(
            blocks=(2, 2, 2, 2),
            strides=(1, 2, 1, 1),
            key_dim=64,
            width=(64, 128, 256, 256),
            pool=False,
            color="lab",
        )
        self.head = nn.Sequential(nn.Conv2d(self.trunk_dim, self.key_dim, kernel_size=3, padding=1))
