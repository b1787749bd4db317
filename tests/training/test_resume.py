"""A run that was interrupted in the middle of an epoch ends with the weights of one that was not, bit for bit."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from refresh_toys import make, write_videos

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
    program = tmp_path / "train.py"
    program.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_resume import Interrupt, train\n"
        "videos, folder = map(Path, sys.argv[1:3])\n"
        "resume, last = sys.argv[3] == 'True', int(sys.argv[4])\n"
        "stop = [Interrupt(last)] if last else []\n"
        "two = dict(devices=2, strategy='ddp', max_epochs=3, batch=2)\n"
        "end = train(videos, folder, *stop, resume=resume, **two)\n"
        "if torch.distributed.get_rank() == 0:  # batch norms of the others differ until their next step\n"
        "    torch.save(end, folder / 'end.pt')\n"
    )

    def start(folder: Path, resume: bool, last: int) -> int:
        arguments = [sys.executable, str(program), str(videos), str(folder), str(resume), str(last)]
        return subprocess.run(arguments, capture_output=True, timeout=200, check=False).returncode

    assert start(tmp_path / "whole", False, 0) == 0
    assert start(tmp_path / "cut", False, 3) != 0
    assert start(tmp_path / "cut", True, 0) == 0
    ends = [torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("whole", "cut")]
    torch.testing.assert_close(*ends, rtol=0, atol=0)


def test_draws_depend_on_the_place_alone():
    def draw(*place: int) -> list[float]:
        seed_draws(*place)
        return torch.rand(3).tolist()

    places = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0)]
    drawn = [draw(*place) for place in places]
    assert len({tuple(each) for each in drawn}) == len(places)
    assert [draw(*place) for place in reversed(places)] == drawn[::-1]
