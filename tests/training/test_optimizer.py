"""Adam with a decay that spares biases and norms, and rates that are scaled in the middle of a schedule."""

from types import SimpleNamespace

import pytest
import torch
from torch.optim import lr_scheduler

from vos_umec import UMECModule
from vos_umec.training.optimizer import adam, scale_rates


def test_decay_spares_biases_and_norms():
    module = UMECModule(network="tiny")
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.0]
    assert all(p.dim() <= 1 for p in groups[1]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))


@pytest.mark.parametrize("decoupled", [True, False])
def test_decay_is_decoupled_or_an_l2_penalty(decoupled):
    """Without a gradient, decoupled decay takes a fraction of a weight, and an L2 penalty the whole rate."""
    settings = {"learning_rate": 1e-3, "weight_decay": 0.1, "betas": (0.5, 0.9), "decoupled_decay": decoupled}
    module = UMECModule("tiny", **settings)
    optimizer = module.configure_optimizers()["optimizer"]
    assert all(group["betas"] == (0.5, 0.9) for group in optimizer.param_groups)
    weight = optimizer.param_groups[0]["params"][0]
    torch.nn.init.constant_(weight, 0.5)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    expected = 0.5 * (1 - 1e-3 * 0.1) if decoupled else 0.5 - 1e-3
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, expected))


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: lr_scheduler.StepLR(o, 100),
        lambda o: lr_scheduler.ReduceLROnPlateau(o),
        lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=100),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, total_iters=2), lr_scheduler.LambdaLR(o, lambda _: 1.0)], [2]
        ),
    ],
)
def test_scaled_rates_stay_scaled_whatever_the_schedule(schedule):
    def rates(factor):
        optimizer = adam([torch.nn.Parameter(torch.zeros(2, 2))], 1.0, 0.0, (0.9, 0.99), decoupled_decay=True)
        scheduler = schedule(optimizer)
        seen = []
        for step in range(8):
            if step == 4:
                config = SimpleNamespace(scheduler=scheduler)
                scale_rates(SimpleNamespace(optimizers=[optimizer], lr_scheduler_configs=[config]), factor)
            optimizer.step()
            scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    whole, scaled = rates(1.0), rates(0.1)
    assert scaled[:4] == whole[:4]
    assert scaled[4:] == pytest.approx([0.1 * rate for rate in whole[4:]])
