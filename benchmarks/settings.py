"""What the training benchmarks train: networks, losses and batches as the configurations have them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from vos_umec import UMECModule
from vos_umec.device import multiplies_bf16
from vos_umec.transforms.augment import ClipAugment

BF16 = multiplies_bf16("cpu")
T = 5


class Setting:
    """A network, its losses and its batches, as a configuration has them."""

    def __init__(
        self, name: str, B: int, side: int, decoded: int, scale: tuple[float, float], **options: Any
    ) -> None:
        self.name, self.B, self.side, self.decoded = name, B, side, decoded
        self.augment = ClipAugment(side, scale)
        self.options = options

    def module(self, **changes: Any) -> UMECModule:
        """A fresh module, always with the same weights."""
        torch.manual_seed(0)
        return UMECModule(**{**self.options, **changes})

    def batch(self, B: int | None = None, frames: int = T, decoded: int | None = None) -> dict[str, Any]:
        """Noise, with pseudo masks of 5 upright bars that stand still; what it shows does not change the time."""
        B, S = B or self.B, decoded or self.decoded
        bars = torch.arange(S) * 5 // S
        return {
            "frames": torch.randint(0, 256, (B, frames, 3, S, S), dtype=torch.uint8),
            "segments": bars.to(torch.uint8).expand(B, frames, S, S).contiguous(),
            "frame_indices": (3 * torch.arange(frames)).expand(B, frames),
        }


def folder() -> Setting:
    """configs/folder.yaml."""
    return Setting(
        "tiny network as in configs/folder.yaml, 8 clips of 5 frames, 128 x 128",
        B=8,
        side=128,
        decoded=240,
        scale=(0.5, 1.0),
        network="tiny",
        objectives=[{"class_path": "vos_umec.DenseContrastObjective"}],
        segmentation={"max_objects": 2, "queries": 1},
    )


def paper() -> Setting:
    """configs/ytvos_resnet18.yaml with a smaller batch."""
    objective = {"class_path": "vos_umec.EquivarianceObjective", "init_args": {"w_short": 0.1, "w_long": 1.0}}
    return Setting(
        "ResNet-18 at the paper's setting, 2 clips of 5 frames, 256 x 256",
        B=2,
        side=256,
        decoded=319,
        scale=(0.8, 1.0),
        network="resnet18",
        objectives=[objective],
    )


def autocast() -> AbstractContextManager[Any]:
    """What the commands train in."""
    return torch.autocast("cpu", torch.bfloat16) if BF16 else nullcontext()


def gradients(module: UMECModule, setting: Setting, batch: dict[str, Any]) -> Tensor:
    """Augmentation, losses, backward."""
    augmented = setting.augment(batch)
    with autocast():
        loss = module.training_step(augmented, 0)
    loss.backward()
    return loss.detach()
