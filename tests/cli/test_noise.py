"""What other packages say to developers is hidden by the commands, and nothing else."""

import logging
import os
import sys
import warnings
from types import SimpleNamespace

import pytest

from vos_umec.cli.noise import hide_noise, hide_wandb_notices


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", [])  # pytest's own are no choice of a user
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def shown(message, category, module) -> bool:
    with warnings.catch_warnings(record=True) as told:
        warnings.warn_explicit(message, category, "a.py", 1, module)
    return bool(told)


@pytest.mark.parametrize(
    ("message", "category", "module", "expected"),
    [
        ("old", DeprecationWarning, "pytorch_lightning.utilities._pytree", False),
        ("old", FutureWarning, "torch.amp", False),
        ("old", FutureWarning, "kornia", False),
        ("The 'val_dataloader' does not have many workers which", UserWarning, "pytorch_lightning.trainer", False),
        ("predict returned None if it was on purpose", UserWarning, "pytorch_lightning.loops", False),
        ("The dirpath has changed from 'a' to 'b'", UserWarning, "pytorch_lightning.callbacks", False),
        ("predict returned None if it was on purpose", UserWarning, "my_module", True),
        ("your GPU is not used", UserWarning, "pytorch_lightning.trainer", True),
        ("old", FutureWarning, "torchbearer", True),  # another package, whose name begins alike
        ("old", DeprecationWarning, "vos_umec.io.frames", True),
        ("old", FutureWarning, "my_objective", True),
    ],
)
def test_which_warnings_are_shown(message, category, module, expected):
    assert shown(message, category, module)
    hide_noise()
    assert shown(message, category, module) is expected


def test_with_an_option_of_python_all_are_shown(monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    hide_noise()
    assert shown("old", FutureWarning, "torch.amp")


def test_tips_of_lightning_are_hidden(caplog):
    hide_noise()
    hide_noise()
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger=log.name):
        log.info("💡 Tip: For seamless cloud logging ...")
        log.info("`Trainer.fit` stopped: `max_epochs=4` reached.")
    assert [record.getMessage()[:9] for record in caplog.records] == ["`Trainer."]
    assert len([each for each in log.filters if getattr(each, "__name__", "") == "_is_of_use"]) == 1


def test_wandb_is_silent_where_it_has_nothing_to_ask():
    online = SimpleNamespace(_wandb_init={"anonymous": None, "project": "p"}, _offline=False)
    hide_wandb_notices(online)
    assert online._wandb_init == {"project": "p"}
    assert "WANDB_SILENT" not in os.environ
    hide_wandb_notices(SimpleNamespace(_wandb_init={}, _offline=True))
    assert os.environ.pop("WANDB_SILENT") == "true"
