"""What the processes of a training decide together."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import StochasticWeightAveraging

from vos_umec.errors import ConfigError
from vos_umec.models.umec import PropagationNetwork
from vos_umec.training.evaluation import SequenceEvaluation


def on_any_rank(here: bool, device: torch.device) -> bool:
    """Whether something holds on one process at least; every process asks, and gets the same answer.

    Args:
        here: Whether it holds on this one.
        device: The device that this process trains on.

    Example:
        >>> on_any_rank(True, torch.device("cpu"))
        True
    """
    if not (dist.is_available() and dist.is_initialized()):
        return here
    flag = torch.tensor(int(here), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)


def check_training(
    trainer: Trainer, network: PropagationNetwork, segmenter: Mapping[str, Any] | None, freeze_encoder: bool
) -> None:
    """Refuse what would fail or do harm later on.

    Args:
        trainer: Trains the network.
        network: The network.
        segmenter: Arguments of VideoSegmenter, if there are any.
        joint: Whether E learns on once there are pseudo masks.

    Raises:
        ConfigError: If the segmenter cannot be made, the weights are not fp32, or stochastic weight averaging meets
            an encoder that rests.
    """
    if segmenter:
        SequenceEvaluation(network, segmenter, baselines=False)
    dtype = next(network.parameters()).dtype
    if dtype != torch.float32:
        raise ConfigError(
            f"the weights are {dtype}, as trainer.precision {trainer.precision} has them; expected fp32: give "
            "precision bf16-mixed or 16-mixed, which compute in half precision where that is safe"
        )
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    if freeze_encoder and any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        raise ConfigError(
            "StochasticWeightAveraging takes the running statistics of all batch norms anew, and with freeze_encoder: true "
            "those of E would stay empty, for it rests; give EMAWeightAveraging, or freeze_encoder: false"
        )


def check_size(frames: torch.Tensor, stride: int) -> None:
    """Cut cells would show only where L_seg begins, and shift what the objectives transform.

    Args:
        frames: Frames (..., H, W) of clips.
        stride: s, pixels to a side of a cell.

    Raises:
        ConfigError: If the frames do not divide into whole cells.

    Example:
        >>> check_size(torch.zeros(2, 3, 50, 48), stride=4)
        Traceback (most recent call last):
        vos_umec.errors.ConfigError: clips have 50 x 48 pixels, and the encoder's cells are 4 wide: give a crop \
(data.crop) that is a multiple of 4, such as 48
    """
    H, W = frames.shape[-2:]
    if H % stride or W % stride:
        raise ConfigError(
            f"clips have {H} x {W} pixels, and the encoder's cells are {stride} wide: give a crop (data.crop) that "
            f"is a multiple of {stride}, such as {H - H % stride or stride}"
        )
