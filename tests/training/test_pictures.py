"""Frames of an evaluation, for the loggers and for the run's folder."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning.loggers import WandbLogger

from vos_umec.data.sequences import VideoSequence
from vos_umec.io.masks import write_mask
from vos_umec.training.pictures import FrameChoice, ShownFrame, choose_frames, log_frames
from vos_umec.viz.pairs import read_description


@pytest.fixture
def sequence(tmp_path) -> VideoSequence:
    """Eight frames; the object is where the mask of each frame says, in column 4 of 8."""
    annotations = {}
    for i in range(8):
        (tmp_path / "dog").mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 60, 3), 20 * i, np.uint8)).save(tmp_path / "dog" / f"f{i}.png")
        annotations[i] = tmp_path / "masks" / f"f{i}.png"
        write_mask(annotations[i], np.pad(np.full((20, 30), 3, np.uint8), ((10, 10), (15, 15))))
    return VideoSequence("dog", tmp_path / "dog", annotations, {0: annotations[0]})


def seen(choice: FrameChoice) -> dict[str, ShownFrame]:
    for i, score in enumerate((float("nan"), 0.5, 0.75, 0.25, 0.5, 0.5, 0.5, 1.0)):
        choice.see(i, np.full((40, 60), i, np.uint8), score)
    return {each.kind: each for each in choice.frames(mean=0.625)}


def test_the_best_and_the_worst_frame_are_among_the_scored_ones(sequence):
    found = seen(FrameChoice(sequence, shown=True, extremes=True))
    assert {kind: (each.frame, each.score) for kind, each in found.items()} == {
        "shown": ("f6", 0.625),  # three quarters of the way, with the score of the sequence
        "best": ("f2", 0.75),  # the last frame is not scored
        "worst": ("f3", 0.25),
    }
    worst = found["worst"]
    assert worst.pixels.shape == (213, 320, 3)
    assert worst.truth.shape == worst.prediction.shape == (213, 320)
    assert (worst.pixels == 60).all()
    assert (worst.prediction == 3).all()
    assert abs((worst.truth == 3).mean() - 0.25) < 0.01
    assert set(seen(FrameChoice(sequence, shown=False, extremes=False))) == set()


def test_few_frames_of_many_are_kept(sequence):
    frame = seen(FrameChoice(sequence, shown=True, extremes=False))["shown"]
    many = [
        frame._replace(kind=k, sequence=f"{i:02d}", score=i / 32)
        for k in ("shown", "best", "worst")
        for i in range(9)
    ]
    kept = choose_frames(many[::-1])
    assert [each.sequence for each in kept if each.kind == "shown"] == ["00", "01", "02"]
    assert [each.score * 32 for each in kept if each.kind == "best"] == [8, 7, 6, 5]
    assert [each.score * 32 for each in kept if each.kind == "worst"] == [0, 1, 2, 3]
    assert choose_frames(kept) == kept


def test_frames_reach_the_folder_and_wandb_with_layers_of_masks(sequence, tmp_path, monkeypatch):
    logged = []
    logger = object.__new__(WandbLogger)
    monkeypatch.setattr(WandbLogger, "log_image", lambda self, *given, **options: logged.append((given, options)))
    trainer = SimpleNamespace(loggers=[logger], is_global_zero=True, global_step=12)
    frames = list(seen(FrameChoice(sequence, shown=True, extremes=True)).values())
    log_frames(trainer, "val", [*frames, frames[0]], tmp_path)  # a sampler may repeat a sequence
    files = sorted((tmp_path / "overlays").iterdir())
    assert [path.name.split("_")[-2] for path in files] == ["best", "shown", "worst"]
    about = {"split": "val", "step": 12, "sequence": "dog", "frame": "f3", "kind": "worst", "J&F": 0.25}
    assert read_description(files[2]) == about
    assert sum(path.stat().st_size for path in files) < 300_000
    (name, images, step), options = next(each for each in logged if "worst" in each[0][0])
    assert (name, step, options["caption"]) == ("val_frames/worst/dog", 12, ["dog, frame f3, J&F 25.0"])
    assert (images[0] == 60).all()  # the frame itself; W&B draws the layers
    layers = options["masks"][0]
    assert set(layers) == {"prediction", "truth"}
    assert set(np.unique(layers["truth"]["mask_data"])) == {0, 3}
    assert layers["truth"]["class_labels"][3] == "object 3"


@pytest.mark.slow
def test_tensorboard_shows_the_picture(sequence, tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from pytorch_lightning.loggers import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path, name="tb")
    trainer = SimpleNamespace(loggers=[logger], is_global_zero=True, global_step=12)
    frames = list(seen(FrameChoice(sequence, shown=True, extremes=False)).values())
    log_frames(trainer, "val", frames, tmp_path)
    logger.experiment.flush()
    events = event_accumulator.EventAccumulator(logger.log_dir).Reload()
    (shown,) = events.Images("val_frames/shown/dog")
    assert (shown.step, shown.width) == (12, 640)
