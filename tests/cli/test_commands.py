"""The commands as people call them: help, options, errors of one line, the second command's hand-over."""

import importlib
import inspect
import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import vos_umec.cli.main as program
from vos_umec import VideoSegmenter
from vos_umec.cli.main import COMMANDS, TRAINER_COMMANDS, lightning, main
from vos_umec.cli.parsing import command_parser, find_config
from vos_umec.cli.shared import nested_readout
from vos_umec.errors import ConfigError
from vos_umec.matching.readout import Readout

BIN = Path(sys.executable).parent
CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = [name for commands in COMMANDS.values() for name in commands]
OWN = [name for name in NAMES if name not in TRAINER_COMMANDS]


def one_line(capsys) -> str:
    error = capsys.readouterr().err.strip().splitlines()
    (line,) = [line for line in error if line.startswith("vos-umec: error: ")]
    assert error[-1] == line  # nothing after it
    return line


def test_help_lists_every_command_and_loads_no_torch():
    done = subprocess.run([BIN / "vos-umec", "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")] == NAMES
    assert set(TRAINER_COMMANDS) < set(NAMES)
    for command in ("", "evaluate", "horizon", "submission", "prepare", "finetune", "demo"):
        code = f"import sys; from vos_umec.cli.main import main\ntry: main('{command} --help'.split())\n"
        code += "except SystemExit: pass\nassert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=20, stdout=subprocess.DEVNULL)


def test_no_command_prints_the_help_and_a_wrong_one_an_error(capsys):
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out
    assert main(["segmnt"]) == 1
    assert "segmnt" in one_line(capsys)


@pytest.mark.parametrize(("old", "new"), [("adapt", "finetune"), ("pack", "submission")])
def test_commands_of_old_names_go_on_to_work(old, new, capsys, caplog):
    with pytest.raises(SystemExit) as stop:
        main([old, "--help"])
    assert stop.value.code == 0
    assert f"vos-umec {new}" in capsys.readouterr().out
    assert f"{old} is called {new}" in caplog.text


@pytest.mark.parametrize("command", OWN)
def test_the_help_of_a_command_explains_every_option_and_gives_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"vos-umec {command} " in text.split("\n\n", 2)[2]
    run = importlib.import_module(f"vos_umec.cli.{command}").run
    arguments = command_parser(command, importlib.import_module(f"vos_umec.cli.{command}"))._actions
    assert all(action.help and action.help.strip() for action in arguments)
    assert {*inspect.signature(run).parameters} - {"settings"} <= {action.dest for action in arguments}


@pytest.mark.parametrize("command", ["segment", "export"])
def test_every_setting_of_a_segmenter_is_an_option(command):
    module = importlib.import_module(f"vos_umec.cli.{command}")
    options = {action.dest for action in command_parser(command, module)._actions}
    wanted = {*inspect.signature(VideoSegmenter).parameters, *inspect.signature(Readout).parameters, "protocol"}
    assert wanted - {"network", "readout"} <= options


@pytest.mark.parametrize("name", ["été.mp4", "犬.mp4", "bad\udcff.mp4"])
def test_a_name_that_the_console_cannot_show_does_not_stop_a_command(name, monkeypatch):
    from vos_umec.cli import export

    def run(checkpoint: str) -> None:
        print(f"{checkpoint} is done")

    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(export, "run", run)
    monkeypatch.setattr(export, "SETTINGS", {})
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["export", name]) == 0
    shown.flush()
    assert shown.buffer.getvalue().endswith(b".mp4 is done\n")


def test_only_options_that_are_given_reach_the_command(monkeypatch):
    from vos_umec.cli import segment

    given = {}

    def run(video: str, *, mask: str, out: str, **settings: object) -> None:
        given.update(settings)

    monkeypatch.setattr(segment, "run", run)
    words = "segment a.mp4 --mask m.png --out o --short-side 240 --permanent_radius=null --memory-masks=coarse"
    assert main(words.split()) == 0
    assert given == {"short_side": 240, "permanent_radius": None, "memory_masks": "coarse"}
    assert nested_readout(given) == {
        "short_side": 240,
        "memory_masks": "coarse",
        "readout": {"permanent_radius": None},
    }


def test_lightning_hands_foreign_words_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lightning", "login"])
    assert lightning() == 2  # lightning-sdk is not installed here
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

    monkeypatch.setattr(program, "distribution", lambda name: Distribution)
    assert lightning() == 7


def test_shipped_configurations_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder.yaml", "schemas/photometric.yaml"):
        assert find_config(name) == find_config(f"configs/{name}") == CONFIGS / name
    for missing, offered in (("no.yaml", "folder.yaml"), ("schemas/no.yaml", "schemas/photometric.yaml")):
        with pytest.raises(ConfigError, match=rf"{missing}.* {offered}"):
            find_config(missing)
    installed = tmp_path / "site-packages" / "vos_umec"  # as the wheel lays it out
    (installed / "configs" / "schemas").mkdir(parents=True)
    (installed / "configs" / "schemas" / "photometric.yaml").touch()
    monkeypatch.setattr("vos_umec.cli.parsing.files", lambda package: installed)
    assert find_config("configs/schemas/photometric.yaml") == installed / "configs" / "schemas" / "photometric.yaml"


QUICK = ["fit", "--config", "configs/quickstart.yaml"]
FEW = ["--data.train_videos=1", "--data.val_videos=1", "--data.frames=8"]
DAVIS = ["test", "--config=configs/davis17.yaml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit"], "--config configs/folder.yaml"),
        (["fit", "--config", "configs/no.yaml"], "configs/no.yaml"),
        (["fit", "--config=configs/no.yaml"], "configs/no.yaml"),
        (["fit", "--config", "configs/folder.yaml", "--data.root=no/such/folder"], "no/such/folder"),
        (["fit", "--config=configs/folder.yaml", "--data.root=empty"], "empty"),
        ([*DAVIS, "--data.root=no/davis"], "no/davis"),
        ([*DAVIS, "--ckpt_path=no.ckpt"], "no.ckpt"),
        (["test", "--config", "configs/davis17.yaml", "--ckpt_path", "no.ckpt"], "no.ckpt"),
        ([*DAVIS, "--ckpt_path=best"], "at best"),
        ([*DAVIS, "--config=resume.yaml"], "gone.ckpt"),
        ([*DAVIS, "--ckpt_path=resume.yaml"], "--model.init_from"),
        (["test", "--config=configs/folder.yaml", "--data.root=."], "--data.val_root"),
        (["fit", "--config", "wrong.yaml"], "warm_up"),
        ([*QUICK, *FEW, "--model.evaluation.segmenter={round: 3}"], " round;"),
        ([*QUICK, "--model.lerning_rate=1"], "lerning_rate"),
        ([*QUICK, "--model.warmup_epochs=1"], "there is --refresh.warmup_epochs"),
        ([*QUICK, "--model.learning_rate=fast"], "learning_rate: Expected a float. Got value: fast"),
        ([*QUICK, "--trainer.max_epochs=many"], "trainer.max_epochs: Expected a int. Got value: many"),
        ([*QUICK, "--model.network=resnet19"], "'resnet19'"),
        ([*QUICK, "--model=vos_umec.Nothing"], "attribute Nothing"),
        (["cluster", "clip", "--out=resume.yaml/segments"], "resume.yaml is a file"),
        (["cluster", "clip", "--out=o", "--clusters=1"], "clusters is 1"),
        (["cluster", "clip"], "out"),
        (["evaluate", "clip", "--root=.", "--workers=many"], "workers: Expected a int. Got value: many"),
        (["evaluate", "clip", "--root=.", "--rot=."], "--rot"),
        (["evaluate", "clip", "--root=.", "--dataset=ade"], "'davis17', 'youtube-vos'"),
    ],
)
def test_wrong_settings_end_in_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resume.yaml").write_text("ckpt_path: gone.ckpt")
    (tmp_path / "wrong.yaml").write_text(
        (CONFIGS / "quickstart.yaml").read_text().replace("warmup_epochs:", "warm_up:")
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip").mkdir()
    for t in range(3):
        Image.new("RGB", (48, 32)).save(tmp_path / "clip" / f"{t}.png")
    assert main(arguments) == 1
    assert words in one_line(capsys)
