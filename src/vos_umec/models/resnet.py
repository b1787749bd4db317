"""ResNet trunks with altered strides: torchvision's networks, cut and re-strided, never pretrained."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck

from vos_umec.errors import ConfigError


class ResNetTrunk(nn.Module):
    """A randomly initialised ResNet without its classifier, with a chosen stride in every stage.

    The stem halves the image twice, or once without its pooling; `strides` says how much each stage adds.
    ResNet-18 with strides (1, 2, 1, 1) is the paper's encoder (s = 8).

    Args:
        blocks: Residual blocks in each stage, 1 to 4 stages.
        strides: Stride of each stage's first block, 1 or 2.
        bottleneck: Bottleneck blocks (ResNet-50 and deeper) instead of basic ones.
        in_channels: Channels of the input; 4 for RGB and a mask.
        width: Channels of the stem and the first stage's convs, doubled from stage to stage; or of each stage.
        pool: Whether the stem ends in its max pooling of stride 2.
        batch_norm: Batch norms after the convs. Without, convs have biases instead, and the output of a row does
            not depend on the other rows of its batch.
        padding: What convs see beyond the border: "zeros", or "reflect", the frame mirrored, as CRW has it.

    Raises:
        ConfigError: If `blocks`, `strides` and `width` do not describe 1 to 4 stages of the same number.

    Example:
        >>> import torch
        >>> trunk = ResNetTrunk(blocks=(1, 1), strides=(1, 2))
        >>> [tuple(f.shape) for f in trunk(torch.zeros(1, 3, 64, 64))]
        [(1, 64, 16, 16), (1, 128, 8, 8)]
        >>> trunk.stride
        8
    """

    def __init__(
        self,
        blocks: Sequence[int],
        strides: Sequence[int],
        bottleneck: bool = False,
        in_channels: int = 3,
        width: int | Sequence[int] = 64,
        pool: bool = True,
        batch_norm: bool = True,
        padding: Literal["zeros", "reflect"] = "zeros",
    ) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(len(blocks))] if isinstance(width, int) else list(width)
        if not 1 <= len(blocks) <= 4 or len(strides) != len(blocks) or not set(strides) <= {1, 2}:
            raise ConfigError(
                f"a ResNet trunk takes 1 to 4 stages and one stride of 1 or 2 for each; found blocks "
                f"{tuple(blocks)} and strides {tuple(strides)}"
            )
        if len(widths) != len(blocks):
            raise ConfigError(f"{len(blocks)} stages take one width each, or one number for all; found {widths}")
        block = Bottleneck if bottleneck else BasicBlock
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        stem = nn.Conv2d(in_channels, widths[0], kernel_size=7, stride=2, padding=3, bias=False)
        pooling = [nn.MaxPool2d(kernel_size=3, stride=2, padding=1)] if pool else []
        self.stem = nn.Sequential(stem, norm(widths[0]), nn.ReLU(inplace=True), *pooling)
        self.channels = [each * block.expansion for each in widths]
        inputs = [widths[0], *self.channels[:-1]]
        self.stages = nn.ModuleList(
            _stage(block, norm, inputs[i], widths[i], number, stride)
            for i, (number, stride) in enumerate(zip(blocks, strides, strict=True))
        )
        self.stride = (4 if pool else 2) * prod(strides)
        self.padding = padding
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                part.padding_mode = padding
                if not batch_norm:
                    part.bias = nn.Parameter(torch.zeros(part.out_channels))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Outputs of all stages, first to last.

        Args:
            x: Images (B, in_channels, H, W), H and W multiples of `stride`.

        Returns:
            One tensor (B, channels[i], H / s_i, W / s_i) a stage.
        """
        x = self.stem(x)  # (B, width, H/4, W/4), or H/2, W/2 without pooling
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class Blocks(nn.Sequential):
    """Blocks in turn; with `checkpointing`, each keeps its input alone and is computed again for the gradients.

    Gradients are the same, and so are running statistics, which the second pass does not change.
    """

    checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """All blocks in turn."""
        for block in self:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(
                    block,
                    x,
                    use_reentrant=False,
                    preserve_rng_state=False,  # nothing in a block is random
                    context_fn=partial(_first_and_second_pass, block),
                )
            else:
                x = block(x)
        return x


def checkpoint_blocks(network: nn.Module) -> None:
    """Switch gradient checkpointing on in every ResNetTrunk of a network: less memory in training, more time.

    Args:
        network: The network; only its trunks take part.

    Raises:
        ConfigError: If it has no ResNetTrunk.
    """
    stages = [part for part in network.modules() if isinstance(part, Blocks)]
    if not stages:
        raise ConfigError(
            f"gradient checkpointing works on ResNetTrunks, and {type(network).__name__} has none; call "
            "torch.utils.checkpoint in your own network"
        )
    for stage in stages:
        stage.checkpointing = True


def _first_and_second_pass(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _fixed_statistics(block)


@contextmanager
def _fixed_statistics(block: nn.Module) -> Iterator[None]:
    """Let batch norms see a batch for a second time without adding it to their running statistics again."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm)]  # SyncBatchNorm is one, but no BatchNorm2d
    momenta = [norm.momentum for norm in norms]
    counts = [(count, count.clone()) for norm in norms if (count := norm.num_batches_tracked) is not None]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for count, before in counts:
            count.copy_(before)


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    norm: type[nn.Module],
    inputs: int,
    planes: int,
    number: int,
    stride: int,
) -> Blocks:
    """Residual blocks; the first one has the stride, and a conv in its shortcut where shapes change."""
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        conv = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
        shortcut = nn.Sequential(conv, norm(outputs))
    first = block(inputs, planes, stride, shortcut, norm_layer=norm)
    return Blocks(first, *(block(outputs, planes, norm_layer=norm) for _ in range(number - 1)))
