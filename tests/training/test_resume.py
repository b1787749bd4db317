"""A run that was interrupted in the middle of an epoch ends with the weights of one that was not, bit for bit."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from refresh_toys import make, write_videos
from several import QuickDDP
from torch.multiprocessing import ProcessRaisedException

from vos_umec import UMECModule, VideoFolderDataModule
from vos_umec.data.clips import seed_draws


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


class Interrupt(Callback):
    """Ends the run in the step after one, whose checkpoint is the last."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step + 1:
            raise ConnectionError


def train(
    videos: Path,
    folder: Path,
    *callbacks: Callback,
    resume: bool = False,
    workers: int = 0,
    batch: int = 3,
    **options,
):
    """Four epochs of 2 steps, then of 3 with masks, all made anew every second epoch: all that may draw, draws."""
    torch.manual_seed(7)
    objective = {"class_path": "vos_umec.DenseContrastObjective"}
    rates = {"learning_rate": 1e-3, "halve_every": 2, "mask_phase_rate": 0.5}
    module = UMECModule("tiny", [objective], segmentation={"max_objects": 1, "queries": 1}, **rates)
    sizes = {"short_side": 40, "crop": 32, "batch_size": batch, "mask_phase_batch_size": 2, "clips_per_video": 2}
    draws = {"clip_length": 3, "gap": 1, "copy_paste": 0.5, "num_workers": workers, "store": str(folder / "store")}
    keep = ModelCheckpoint(dirpath=folder, filename="latest", every_n_train_steps=1)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[make(every_n_epochs=2, pictures=0), *callbacks, keep], **{"max_epochs": 4, **options},
    )  # fmt: skip
    path = str(folder / "latest.ckpt") if resume else None
    trainer.fit(module, VideoFolderDataModule(str(videos), **sizes, **draws), ckpt_path=path)
    return {"step": torch.tensor(trainer.global_step), **module.state_dict()}


def interrupted(videos: Path, folder: Path, *steps: int, **options):
    for number, step in enumerate(steps):
        with pytest.raises(ConnectionError):
            train(videos, folder, Interrupt(step), resume=number > 0, **options)
        torch.rand(step)  # the state of the generators is not that of the run
    return train(videos, folder, resume=True, **options)


def test_weights_are_the_same_from_wherever_a_run_goes_on(videos, tmp_path):
    whole = train(videos, tmp_path / "whole")
    # In the warm-up; after its last step, before the refresh; with masks, of the first refresh and of the second.
    for steps in ((1, 3), (2, 4, 9)):
        resumed = interrupted(videos, tmp_path / str(steps[0]), *steps)
        torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


@pytest.mark.slow
def test_neither_workers_nor_a_number_of_steps_change_that(videos, tmp_path):
    whole = train(videos, tmp_path / "whole", max_steps=9)
    resumed = interrupted(videos, tmp_path / "workers", 4, workers=2, max_steps=9)
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_go_on_alike(videos, tmp_path):
    def start(name: str, *callbacks: Callback, resume: bool = False) -> None:
        two = {"devices": 2, "strategy": QuickDDP(), "max_epochs": 3, "batch": 2}
        train(videos, tmp_path / name, *callbacks, resume=resume, **two)

    start("whole")
    with pytest.raises(ProcessRaisedException, match="ConnectionError"):
        start("cut", Interrupt(3))
    start("cut", resume=True)
    whole, cut = (torch.load(tmp_path / name / "latest.ckpt", weights_only=True) for name in ("whole", "cut"))
    assert whole["global_step"] == cut["global_step"] > 4
    torch.testing.assert_close(cut["state_dict"], whole["state_dict"], rtol=0, atol=0)


def test_draws_depend_on_the_place_alone():
    def draw(*place: int) -> list[float]:
        seed_draws(*place)
        return torch.rand(3).tolist()

    places = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0)]
    drawn = [draw(*place) for place in places]
    assert len({tuple(each) for each in drawn}) == len(places)
    assert [draw(*place) for place in reversed(places)] == drawn[::-1]
