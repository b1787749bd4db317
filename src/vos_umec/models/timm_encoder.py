"""Any backbone of timm as E."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.data.augment import IMAGENET_MEAN, IMAGENET_STD
from vos_umec.errors import ConfigError
from vos_umec.models.encoder import Features
from vos_umec.models.timm_backbone import build_backbone
from vos_umec.models.weights import declare_weights, weights_are_wanted


class TimmEncoder(nn.Module):
    """E on a backbone of timm, randomly initialised unless weights are asked for.

    A ViT is read after a block, with its final norm and without class and register tokens; its position embeddings
    are resized to the frame. With a stride below the patch size its patches overlap, each centred on its cell.
    Other networks are read after a stage. Frames come with ImageNet's mean and deviation and are brought to the
    backbone's own.

    Args:
        name: timm's name, as "vit_small_patch16_224.dino", "vit_small_patch14_dinov2", "convnext_tiny".
        stride: s; None for the backbone's own. ViTs take 1 to their patch size, convolutional networks what they
            can dilate to (8, 16 or 32).
        layer: The block or stage whose features become keys, from 0, or from the end if negative.
        key_dim: D, by a 1x1 head that wants training; None for the features themselves.
        pretrained: Start from the weights that timm downloads for this name.
        weights: Start from this file instead.
        weights_used_labels: Whether labels were used to train the weights; must be given with them.

    Raises:
        MissingDependencyError: If timm is not installed.
        ConfigError: If there is no such backbone, it gives no feature maps for frames of any size, or an argument
            does not fit it.
        CheckpointError: If the weights cannot be had, or are not all of the backbone's.

    Example:
        >>> E = TimmEncoder("vit_tiny_patch16_224", stride=8, layer=2)
        >>> tuple(E(torch.rand(1, 3, 48, 80)).key.shape), E.stride
        ((1, 192, 6, 10), 8)
    """

    def __init__(
        self,
        name: str,
        stride: int | None = None,
        layer: int = -1,
        key_dim: int | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        weights_used_labels: bool | None = None,
    ) -> None:
        super().__init__()
        if pretrained and weights is not None:
            raise ConfigError(f"give pretrained=True or weights, not both; found weights {weights}")
        if pretrained or weights is not None:
            declare_weights(weights or f"timm's {name}", weights_used_labels)
            if not weights_are_wanted():
                pretrained, weights = False, None
        self.net, given = build_backbone(name, layer, stride, pretrained, weights)
        mean, std, own_mean, own_std = (
            torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD, given["mean"], given["std"])
        )
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", std / own_std, persistent=False)
        self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)
        self.stride = self.net.stride
        maps = self._probe(name)
        self.trunk_dim = maps[-1].shape[1]
        self.skip_dims = tuple(one.shape[1] for one in reversed(maps[:-1]))
        self.key_dim = key_dim or self.trunk_dim
        self.head = nn.Identity() if key_dim is None else nn.Conv2d(self.trunk_dim, key_dim, kernel_size=1)

    def forward(self, x: Tensor) -> Features:
        """Encode frames.

        Args:
            x: Frames (B, 3, H, W), normalised with ImageNet's mean and deviation, sides multiples of `stride`.

        Returns:
            Keys, the features that they are made of as trunk, and earlier layers' as skips.
        """
        maps = self.net(x * self.scale + self.shift)
        key = F.normalize(self.head(maps[-1]).float(), dim=1)  # (B, D, h, w), fp32 under autocast too
        return Features(key=key, trunk=maps[-1], skips=tuple(reversed(maps[:-1])))

    @torch.no_grad()
    def _probe(self, name: str) -> list[Tensor]:
        """What a frame of 2 x 3 cells gives, a size that no backbone was made for."""
        self.net.eval()
        try:
            maps: list[Tensor] = self.net(torch.zeros(1, 3, 2 * self.stride, 3 * self.stride))
            found = [tuple(one.shape) for one in maps]
        except (AssertionError, RuntimeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"timm's '{name}' gives no feature maps for frames of any size ({str(error).splitlines()[0]}); "
                "take a backbone with spatial features, as a ViT, ResNet or ConvNeXt"
            ) from error
        if len(found[-1]) != 4 or found[-1][2:] != (2, 3):
            raise ConfigError(
                f"timm's '{name}' has no spatial features at stride {self.stride}: it gives {found[-1]} where "
                "(1, C, 2, 3) is expected; take a backbone with spatial features, as a ViT, ResNet or ConvNeXt"
            )
        self.net.train()
        return maps
