"""Adam as the paper's released code has it, or AdamW, and the learning rates of the mask phase."""

from collections.abc import Iterable

import torch
from pytorch_lightning import Trainer
from torch import nn


def adam(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    decoupled_decay: bool,
) -> torch.optim.Optimizer:
    """Adam, or AdamW with decoupled decay, which spares biases and norms.

    Args:
        parameters: All that learn at some time.
        learning_rate: Its learning rate.
        weight_decay: Decay of the weights.
        betas: Decay rates of the two moments.
        decoupled_decay: AdamW. If not, the decay is an L2 penalty.
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    cls = torch.optim.AdamW if decoupled_decay else torch.optim.Adam
    return cls(groups, lr=learning_rate, betas=betas)


def scale_rates(trainer: Trainer, factor: float) -> None:
    """Scale all learning rates, and those that the schedules start from or lead to.

    Checkpoints keep the rates and a mark that they are scaled, so a resumed run does not scale them again.

    Args:
        trainer: The Trainer that has the optimizers.
        factor: Factor of the rates.
    """
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            if not group.get("scaled"):
                group["scaled"] = True
                for name in {"lr", "initial_lr", "max_lr", "min_lr"} & group.keys():  # the last two of OneCycleLR
                    group[name] *= factor
    for config in trainer.lr_scheduler_configs:
        for schedule in (config.scheduler, *getattr(config.scheduler, "_schedulers", ())):  # those of SequentialLR
            if hasattr(schedule, "base_lrs"):
                schedule.base_lrs = [group["initial_lr"] for group in schedule.optimizer.param_groups]
