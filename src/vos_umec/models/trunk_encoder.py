"""An encoder without a head: keys are what the trunk says, as label propagation takes published ResNets."""

from collections.abc import Sequence

from torch import nn

from vos_umec.models.encoder import Encoder


class TrunkEncoder(Encoder):
    """E whose keys are the unit-norm features of the trunk's last stage.

    CRW, VFS and DINO's ResNet are measured so (CRW: the third stage of ResNet-18, the default here; s = 8). Their
    heads are for training; a head that was not trained would blur the features.

    Args:
        blocks: Residual blocks in each stage, up to the stage that is read; 2 to 4 stages.
        strides: Stride of each stage on top of the stem's 4.
        bottleneck: Bottleneck blocks, as ResNet-50 has.

    Example:
        >>> import torch
        >>> E = TrunkEncoder(blocks=(1, 1), strides=(1, 2))
        >>> tuple(E(torch.rand(1, 3, 32, 48)).key.shape), E.key_dim
        ((1, 128, 4, 6), 128)
    """

    def __init__(
        self, blocks: Sequence[int] = (2, 2, 2), strides: Sequence[int] = (1, 2, 1), bottleneck: bool = False
    ) -> None:
        super().__init__(blocks, strides, bottleneck)
        self.head = nn.Sequential()
        self.key_dim = self.trunk_dim
