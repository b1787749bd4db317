"""The commands as people call them: help, errors of one line, the second command's hand-over."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_umec.cli import lightning
from vos_umec.cli.commands import COMMANDS, TRAINER_COMMANDS
from vos_umec.cli.main import main

BIN = Path(sys.executable).parent


def one_line(capsys) -> str:
    error = capsys.readouterr().err.strip().splitlines()
    told = [line for line in error if line.startswith("vos-umec: error: ")]
    assert len(told) == 1
    assert error[-1] == told[0]  # nothing after it
    return told[0]


def test_help_lists_every_command_and_loads_no_torch():
    done = subprocess.run([BIN / "vos-umec", "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    for name in [*COMMANDS, *TRAINER_COMMANDS]:
        assert name in done.stdout
    code = "import sys; from vos_umec.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True, timeout=20)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert command in capsys.readouterr().out


def test_no_command_prints_the_help(capsys):
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


def test_lightning_hands_foreign_words_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lightning", "login"])
    assert lightning.main() == 2  # lightning-sdk is not installed here
    assert "lightning-sdk" in capsys.readouterr().err

    class Script:
        @staticmethod
        def load():
            return lambda: 7

    class Distribution:
        class entry_points:
            @staticmethod
            def select(**wanted):
                assert wanted == {"group": "console_scripts", "name": "lightning"}
                return [Script]

    monkeypatch.setattr(lightning, "distribution", lambda name: Distribution)
    assert lightning.main() == 7


QUICK = ["fit", "--config", "configs/quickstart.yaml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit"], "fit.data, fit.model; a configuration has them: --config configs/folder.yaml"),
        (["fit", "--config", "configs/no.yaml"], "no configuration file configs/no.yaml"),
        (["fit", "--config=configs/no.yaml"], "no configuration file configs/no.yaml"),
        (["fit", "--config=configs/folder.yaml", "--data.root=no/such/folder"], "no/such/folder"),
        (["test", "--config=configs/davis17.yaml", "--ckpt_path=no.ckpt"], "no checkpoint at no.ckpt"),
        (["test", "--config", "configs/davis17.yaml", "--ckpt_path", "no.ckpt"], "no checkpoint at no.ckpt"),
        (["test", "--config=configs/davis17.yaml", "--ckpt_path=best"], "no checkpoint at best"),
        (["test", "--config=configs/davis17.yaml", "--config=resume.yaml"], "no checkpoint at gone.ckpt"),
        (["test", "--config=configs/davis17.yaml", "--ckpt_path=resume.yaml"], "goes to --model.init_from"),
        (["test", "--config=configs/folder.yaml", "--data.root=."], "no sequence to segment: give --data.val_root"),
        (["cluster", "clip", "--out=resume.yaml/segments"], "check the place and the room there"),
        ([*QUICK, "--model.readout={topk: 10}"], "readout {'topk': 10}: expected a mapping of the settings top_k, radius"),
        ([*QUICK, "--model.segmenter={round: 3}"], "the segmenter has no setting round"),
        ([*QUICK, "--model.lerning_rate=1"], "lerning_rate"),
        ([*QUICK, "--model.learning_rate=fast"], "learning_rate"),
        ([*QUICK, "--model.network=resnet19"], "unknown network 'resnet19'"),
        (["fit", "--config", "configs/folder.yaml", "--data.root=no/such/folder"], "no/such/folder"),
        (["test", "--config", "configs/davis17.yaml", "--data.root=no/davis"], "no/davis"),
    ],
)
def test_wrong_settings_end_in_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resume.yaml").write_text("ckpt_path: gone.ckpt")
    (tmp_path / "clip").mkdir()
    for t in range(3):
        Image.new("RGB", (48, 32)).save(tmp_path / "clip" / f"{t}.png")
    assert main(arguments) == 1
    assert words in one_line(capsys)


def test_an_unknown_key_in_a_yaml_file_is_named(capsys, tmp_path):
    text = Path("configs/quickstart.yaml").read_text()
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace("warmup_epochs:", "warm_up:"))
    assert main(["fit", "--config", str(path)]) == 1
    assert "warm_up" in one_line(capsys)


def test_an_empty_folder_ends_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["fit", "--config", "configs/folder.yaml", f"--data.root={empty}"]) == 1
    assert "empty" in one_line(capsys)


@pytest.fixture
def clip(tmp_path) -> Path:
    from vos_umec.io.video_writer import VideoWriter

    with VideoWriter(tmp_path / "clip.mp4", 24) as writer:
        for t in range(4):
            frame = np.zeros((32, 48, 3), np.uint8)
            frame[8:24, 4 * t : 4 * t + 16] = 255
            writer.write(frame)
    return tmp_path / "clip.mp4"


@pytest.mark.parametrize(
    ("shape", "value", "words"),
    [((16, 48), 1, "mask at the video's own size"), ((32, 48), 0, "shows no object")],
)
def test_masks_that_do_not_fit_end_in_one_line(shape, value, words, clip, tmp_path, capsys):
    from vos_umec.io.masks import write_mask

    write_mask(tmp_path / "m.png", np.full(shape, value, np.uint8))
    arguments = ["segment", str(clip), "--mask", str(tmp_path / "m.png"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--checkpoint", "no.ckpt"]) == 1
    assert words in one_line(capsys)


def test_a_file_that_is_no_checkpoint_ends_in_one_line(clip, tmp_path, capsys):
    from vos_umec.io.masks import write_mask

    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, :16] = 1
    write_mask(tmp_path / "m.png", mask)
    (tmp_path / "x.ckpt").write_bytes(b"not a checkpoint")
    arguments = ["segment", str(clip), "--mask", str(tmp_path / "m.png"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--checkpoint", str(tmp_path / "x.ckpt")]) == 1
    assert "is not a checkpoint of a UMECModule" in one_line(capsys)


@pytest.fixture
def segmenting(clip, tmp_path) -> list[str]:
    """Arguments of a `segment` that can succeed."""
    from pytorch_lightning import Trainer

    from vos_umec.io.masks import write_mask
    from vos_umec.training.module import UMECModule

    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, :16] = 1
    write_mask(tmp_path / "m.png", mask)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(UMECModule(network="tiny"))
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    where = ["--checkpoint", str(tmp_path / "c.ckpt"), "--out", str(tmp_path / "out")]
    return ["segment", str(clip), "--mask", str(tmp_path / "m.png"), *where]


def test_segment_writes_a_mask_a_frame_and_an_overlay_of_the_frames(segmenting, tmp_path):
    from vos_umec.io.masks import read_mask
    from vos_umec.io.source import open_source

    assert main([*segmenting, "--frame", "1", "--crop-margin", "2"]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["masks", "overlay.mp4"]
    masks = [read_mask(path) for path in sorted((tmp_path / "out/masks").iterdir())]
    assert [mask.any() for mask in masks] == [False, True, True, True]
    shown = open_source(tmp_path / "out/overlay.mp4")
    assert (len(shown), shown.size) == (4, (32, 48))
    grey, colored = shown.read([0, 1]).astype(int)
    assert (grey.max(axis=2) - grey.min(axis=2)).max() < 40  # the frame itself, before there is a mask
    assert (colored.max(axis=2) - colored.min(axis=2))[masks[1] > 0].mean() > 60


def test_the_packages_own_model_segments_where_no_checkpoint_is_named(segmenting, tmp_path):
    from vos_umec.io.masks import read_mask

    place = segmenting.index("--checkpoint")
    assert main(segmenting[:place] + segmenting[place + 2 :]) == 0
    masks = [read_mask(path) for path in sorted((tmp_path / "out/masks").iterdir())]
    for t, mask in enumerate(masks):  # the square is where it moved to
        truth = np.zeros((32, 48), bool)
        truth[8:24, 4 * t : 4 * t + 16] = True
        assert ((mask == 1) & truth).sum() / ((mask == 1) | truth).sum() > 0.7


def test_what_cannot_be_written_ends_in_one_line(segmenting, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/masks").write_text("in the way")
    assert main(segmenting) == 1
    assert "cannot write to" in one_line(capsys)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["masks"]  # no half a video
