import pytest
import torch

from vos_umec.cli import trainer


@pytest.mark.parametrize(
    ("accelerator", "cuda", "bf16", "precision"),
    [
        ("auto", True, True, "bf16-mixed"),
        ("gpu", True, False, "16-mixed"),  # V100, T4
        ("cuda", True, False, "16-mixed"),
        ("auto", False, True, "bf16-mixed"),
        ("cpu", True, False, "32-true"),
        ("mps", False, True, "32-true"),
    ],
)
def test_a_trainer_computes_in_what_the_hardware_multiplies(accelerator, cuda, bf16, precision, monkeypatch):
    device = torch.device("cuda" if cuda else "cpu")
    monkeypatch.setattr(trainer, "pick_device", lambda: device)
    monkeypatch.setattr(trainer, "multiplies_bf16", lambda kind: bf16)
    assert trainer.best_precision(accelerator) == precision
