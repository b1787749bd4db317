"""The frame-mask encoder V: one embedding of a frame and an object's mask (UMEC eq. 3 and 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from vos_umec.errors import ConfigError
from vos_umec.models.layers import ResidualBlock, add_to_objects, conv_part
from vos_umec.models.resnet import ResNetTrunk


@dataclass(frozen=True)
class FrameFeatures:
    """The part of V's work that is the same for every mask of a frame; exact, because convs are linear.

    Attributes:
        rgb: The part of the first conv that comes from RGB (B, width, H/2, W/2).
        trunk: The part of the join that comes from E's trunk features (B, Dv, h, w).
    """

    rgb: Tensor
    trunk: Tensor


class MaskEncoder(nn.Module):
    """V: a trunk of its own on RGB and one mask, joined with E's trunk features at stride s.

    Args:
        blocks: Residual blocks in each stage of the trunk.
        strides: Stride of each stage; the trunk's stride must equal E's.
        bottleneck: Bottleneck blocks in the trunk.
        trunk_dim: C, the width of E's trunk features that are joined in.
        mask_dim: Dv, the width of the mask embedding.
        width: Channels of the trunk's first stage.
        pool: Max pooling of stride 2 at the end of the trunk's stem.
        batch_norm: Batch norms in the trunk. Without, true and predicted masks in one batch share no statistics.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2),
        strides: Sequence[int] = (1, 2, 1),
        bottleneck: bool = False,
        trunk_dim: int = 512,
        mask_dim: int = 512,
        width: int = 64,
        pool: bool = True,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.net = ResNetTrunk(blocks, strides, bottleneck, 4, width, pool, batch_norm)
        self.stride = self.net.stride
        self.mask_dim = mask_dim
        self.join = nn.Conv2d(self.net.channels[-1] + trunk_dim, mask_dim, kernel_size=1)
        self.fuse = nn.Sequential(ResidualBlock(mask_dim, mask_dim), ResidualBlock(mask_dim, mask_dim))

    def forward(self, frame: Tensor, mask: Tensor, trunk: Tensor) -> Tensor:
        """Embed one mask a row.

        Args:
            frame: Normalised frames (B, 3, H, W).
            mask: Soft masks (B, 1, H, W) in [0, 1].
            trunk: E's trunk features of the same frames (B, C, h, w).

        Returns:
            Mask embeddings (B, Dv, h, w).
        """
        return self.embed(self.precompute(frame, trunk), mask)

    def precompute(self, frame: Tensor, trunk: Tensor) -> FrameFeatures:
        """Compute what does not depend on the mask.

        Args:
            frame: Normalised frames (B, 3, H, W).
            trunk: E's trunk features of the same frames (B, C, h, w).
        """
        rgb = conv_part(self._first, frame, start=0)
        return FrameFeatures(rgb, conv_part(self.join, trunk, start=self.net.channels[-1]))

    @property
    def _first(self) -> nn.Conv2d:
        return cast(nn.Conv2d, self.net.stem[0])

    def embed(self, cached: FrameFeatures, mask: Tensor) -> Tensor:
        """Embed one mask a row.

        Args:
            cached: The result of `precompute`, for B frames.
            mask: Soft masks (B*K, 1, H, W) in [0, 1], the K objects of a frame next to each other.

        Returns:
            Mask embeddings (B*K, Dv, h, w).

        Raises:
            ConfigError: If the trunk's stride is not that of E's features.
        """
        x = add_to_objects(conv_part(self._first, mask.to(cached.rgb.dtype), start=3), cached.rgb)
        for layer in (*self.net.stem[1:], *self.net.stages):
            x = layer(x)  # at last (B*K, C', h, w)
        if x.shape[-2:] != cached.trunk.shape[-2:]:
            raise ConfigError(
                f"the frame-mask encoder gives a grid of {tuple(x.shape[-2:])} cells where the encoder gives "
                f"{tuple(cached.trunk.shape[-2:])}; give both the same total stride"
            )
        joined = add_to_objects(conv_part(self.join, x, start=0), cached.trunk)  # (B*K, Dv, h, w)
        values: Tensor = self.fuse(joined)
        return values
