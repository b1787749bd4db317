"""A schedule by the clock, on a clock that moves by a fixed step at every look."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from refresh_toys import Toy, Validated, fit, make, write_videos

from vos_umec.errors import ConfigError
from vos_umec.training.callbacks import time_budget as budget_module
from vos_umec.training.callbacks.pseudo_mask_refresh import PseudoMaskRefresh
from vos_umec.training.callbacks.time_budget import TimeBudget


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Six seconds pass between two looks, so that a budget of a minute is ten steps."""
    now = [0.0]

    def look() -> float:
        now[0] += 6
        return now[0]

    monkeypatch.setattr(budget_module, "monotonic", look)


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def test_the_rate_follows_the_clock_and_training_stops_when_it_is_spent(videos, tmp_path):
    rates, budget = Rates(), TimeBudget(minutes=1, warmup=0.2)
    trainer = fit(videos, tmp_path, make(at=[0.5]), epochs=-1, first=[budget], callbacks=[rates])
    assert trainer.global_step == 10
    expected = [0.01 * budget.factor(step / 10) for step in range(1, 11)]
    assert rates.seen == pytest.approx(expected)
    assert rates.seen[1] == pytest.approx(0.01)
    assert rates.seen[-1] == pytest.approx(0.0)


def test_an_end_before_the_budget_is_told(videos, tmp_path, caplog):
    fit(videos, tmp_path / "epochs", make(at=[0.5]), epochs=3, first=[TimeBudget(minutes=1)])
    assert "ended after 0.3 of the budget's 1 minutes, for max_epochs is 3" in caplog.text
    caplog.clear()
    fit(videos, tmp_path / "budget", make(at=[0.5]), epochs=-1, first=[TimeBudget(minutes=1)])
    assert "ended after" not in caplog.text


def test_refreshes_come_at_their_progress(videos, tmp_path):
    module = Toy()  # an epoch is one step of two clips, of three videos
    fit(videos, tmp_path, make(at=[0.3, 0.6]), epochs=-1, module=module, first=[TimeBudget(minutes=1)])
    assert module.generations() == {e: {(e >= 3) + (e >= 6)} for e in range(10)}


def test_progress_0_is_before_the_first_batch(videos, tmp_path):
    module = Toy()
    fit(videos, tmp_path, make(at=[0.0]), epochs=2, module=module, first=[TimeBudget(minutes=1)])
    assert module.generations() == {0: {1}, 1: {1}}


def test_the_first_refresh_counts_and_validation_does_not(videos, tmp_path):
    class Slow(Validated):
        def on_validation_epoch_start(self):
            for _ in range(100):
                budget_module.monotonic()

    class Refresh(PseudoMaskRefresh):
        def on_fit_start(self, trainer, pl_module):
            for _ in range(4):
                budget_module.monotonic()

    budget = TimeBudget(minutes=1)
    trainer = fit(videos, tmp_path, Refresh(at=[1.0]), epochs=-1, module=Slow(), callbacks=[budget])
    # Of ten looks at the clock four are the refresh's, and each epoch of one step has one more, before validation.
    assert trainer.global_step == 3


def test_a_resumed_run_goes_on_with_what_is_left(videos, tmp_path):
    saved = ModelCheckpoint(tmp_path / "saved", save_last=True, save_on_train_epoch_end=True)
    options = {"epochs": 4, "enable_checkpointing": True, "callbacks": [saved]}
    fit(videos, tmp_path, make(at=[0.3]), first=[TimeBudget(minutes=1)], **options)
    rates = Rates()
    trainer = fit(
        videos, tmp_path, make(at=[0.3]), epochs=-1, first=[TimeBudget(minutes=1)],
        ckpt_path=tmp_path / "saved" / "last.ckpt", callbacks=[rates],
    )  # fmt: skip
    assert trainer.global_step == 10
    assert rates.seen == pytest.approx([0.01 * TimeBudget(minutes=1).factor(step / 10) for step in range(5, 11)])
    assert trainer.datamodule.store.generation == 1


def test_progress_without_a_budget_is_refused(videos, tmp_path):
    with pytest.raises(ConfigError, match="TimeBudget"):
        fit(videos, tmp_path, make(at=[0.5]))


@pytest.mark.parametrize("wrong", [{"at": []}, {"at": [0.5, 0.2]}, {"at": [1.5]}])
def test_wrong_progress_is_refused(wrong):
    with pytest.raises(ConfigError, match="rising fractions"):
        make(**wrong)


def test_without_minutes_the_modules_own_schedule_holds(videos, tmp_path):
    rates = Rates()
    trainer = fit(videos, tmp_path, make(), epochs=12, first=[TimeBudget()], callbacks=[rates])
    assert trainer.global_step == 12
    assert set(rates.seen) == {0.01}
    with pytest.raises(ConfigError, match=r"--budget\.minutes"):
        fit(videos, tmp_path, make(at=[0.5]), first=[TimeBudget()])


@pytest.mark.parametrize(
    "wrong", [{"minutes": 0}, {"minutes": 1, "warmup": 1.0}, {"restarts": [0.5, 0.4]}, {"restarts": [1.0]}]
)
def test_wrong_budgets_are_refused(wrong):
    with pytest.raises(ConfigError, match="minutes is"):
        TimeBudget(**wrong)


def test_a_schedulers_own_rates_are_the_peaks(videos, tmp_path):
    class Halved(Toy):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)}

    rates, budget = Rates(), TimeBudget(minutes=1)
    fit(videos, tmp_path, make(at=[0.5]), epochs=6, module=Halved(), first=[budget], callbacks=[rates])
    assert rates.seen == pytest.approx([0.01 * budget.factor(step / 10) for step in range(1, 7)])
