"""`vos-umec finetune` on a made clip, from a model file of random weights."""

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning import Trainer
from safetensors.torch import load_file

from vos_umec import SyntheticVOS, UMECModule
from vos_umec.cli.main import main
from vos_umec.cli.shared import save_comparison
from vos_umec.errors import VideoReadError
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.io.video_writer import VideoWriter
from vos_umec.models.model_file import read_card, write_model
from vos_umec.training.checkpoint import load_module


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    made = SyntheticVOS(tmp_path_factory.mktemp("made"), train_videos=1, val_videos=1, frames=6, size=(48, 64))
    made.prepare()
    return made.val_sequences()[0]


@pytest.fixture
def start(tmp_path):
    module = UMECModule("compact", evaluation={"segmenter": {"rounds": 1, "short_side": 48, "references": 2}})
    write_model(module.network, tmp_path / "start.safetensors", module.description())
    return tmp_path / "start.safetensors"


@pytest.mark.slow
def test_the_network_stays_what_it_was_and_only_the_clip_that_is_given_is_read(clip, tmp_path, monkeypatch):
    module = UMECModule({"preset": "compact", "tau": 0.06})  # no pyramid and no segmenter, as two_cores.yaml has
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "start.ckpt")
    for name in ("a", "b"):
        with VideoWriter(tmp_path / "videos" / f"{name}.mp4", 24) as writer:
            for frame in clip.source().read(range(6)):
                writer.write(frame)
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):  # into one place, which is where the videos are as well
        words = ["finetune", f"videos/{name}.mp4", "--out", ".", "--checkpoint", "start.ckpt"]
        assert main([*words, "--minutes", "0.02"]) == 0
    after = load_module(tmp_path / "finetuned.safetensors")
    assert after.network.encoder.pyramid_weights == module.network.encoder.pyramid_weights == (1.0,)
    assert not after.evaluation.segmenter
    assert after.network.tau == 0.06
    pictures = (tmp_path / "finetune" / "version_1" / "pseudo_masks" / "pictures").iterdir()
    assert all("_b." in picture.name for picture in pictures)
    assert all((tmp_path / "videos" / f"{name}.mp4").stat().st_size for name in ("a", "b"))


@pytest.mark.slow
def test_v_and_d_learn_on_a_clip_that_is_shown_before_and_after(clip, start, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["finetune", str(clip.path), "--out", str(out), "--checkpoint", str(start), "--minutes", "0.2"]
    assert main([*arguments, "--mask", str(clip.annotations[0])]) == 0
    model = out / "finetuned.safetensors"
    assert read_card(model)["finetuned_from"] == "start.safetensors"
    assert (out / "before_and_after.png").stat().st_size > 0
    given, learnt = load_file(start), load_file(model)
    moved = {name.split(".")[0] for name in given if not given[name].equal(learnt[name])}
    assert "decoder" in moved
    assert "encoder" not in moved  # an E that moves leaves V and D behind
    assert list(out.glob("finetune/version_0/pseudo_masks/manifest.json"))  # it learnt to carry masks as well
    assert str(model) in capsys.readouterr().out
    segmented = ["segment", str(clip.path), "--mask", str(clip.annotations[0]), "--checkpoint", str(model)]
    assert main([*segmented, "--out", str(tmp_path / "masks")]) == 0


class Counting:
    """A segmenter that finds nothing, and counts."""

    def __init__(self):
        self.steps = []

    def step(self, frame, mask=None):
        self.steps.append(mask is not None)
        return np.zeros(frame.shape[:2], np.uint8)


def shown(path):
    """Frames of each row of a picture of two rows, whose frames are 48 x 64."""
    with Image.open(path) as picture:
        heights = {2 * round(300 * ((1600 - 4 * (n + 1)) // n) / 400) + 12: n for n in range(1, 7)}
        assert picture.width == 1600
        return heights[picture.height]


@pytest.mark.parametrize("first", [0, 3, 4, 5])
@pytest.mark.parametrize("seconds", [-100, 0, 1000])
def test_the_picture_is_made_of_the_frames_that_there_is_time_for(first, seconds, clip, tmp_path):
    before, after = Counting(), Counting()
    prompts = {first: np.ones((48, 64), np.uint8)}
    save_comparison(tmp_path / "p.png", clip.source(), prompts, {"a": before, "b": after}, seconds=seconds)
    all_frames = 6 - first if first < 5 else 6  # behind the last frame there is none, so those before it are shown
    frames = all_frames if seconds > 0 else 2
    assert before.steps == after.steps == [True] + (frames - 1) * [False]
    assert shown(tmp_path / "p.png") == frames


def test_a_picture_is_made_of_the_frames_before_a_broken_one(clip, tmp_path, caplog):
    source = clip.source()
    read = source.read

    def breaking(indices, size=None):
        if max(indices) > 3:
            raise VideoReadError(source.path, f"frame {max(indices)} is broken")
        return read(indices, size)

    source.read = breaking
    prompts = {0: np.ones((48, 64), np.uint8)}
    save_comparison(tmp_path / "p.png", source, prompts, {"a": Counting(), "b": Counting()})
    assert shown(tmp_path / "p.png") == 4
    assert "first 4 of 6 frames" in caplog.text


@pytest.mark.parametrize("minutes", ["0", "-1", ".inf", ".nan"])
def test_minutes_that_cannot_be_are_refused_before_anything_is_read(minutes, capsys):
    assert main(["finetune", "no.mp4", "--out", "no", "--minutes", minutes]) == 1
    assert "--minutes is" in capsys.readouterr().err


def test_files_of_somebody_else_are_refused_before_the_minutes_are_spent(clip, tmp_path, capsys):
    (tmp_path / "finetuned.safetensors").write_text("mine")
    words = ["finetune", str(clip.path), "--out"]
    assert main([*words, str(tmp_path)]) == 1
    assert "finetuned.safetensors): choose another --out, or give --overwrite" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "finetuned.safetensors")]) == 1
    assert "is a file; name a folder" in capsys.readouterr().err


def test_a_wrong_mask_shows_before_the_minutes_are_spent(clip, start, tmp_path, capsys):
    write_mask(tmp_path / "small.png", np.ones((8, 8), np.uint8))
    arguments = ["finetune", str(clip.path), "--out", str(tmp_path / "out"), "--checkpoint", str(start)]
    assert main([*arguments, "--mask", str(tmp_path / "small.png")]) == 1
    assert "(8, 8)" in capsys.readouterr().err
    assert read_mask(clip.annotations[0]).shape == (48, 64)
    assert not (tmp_path / "out").exists()
