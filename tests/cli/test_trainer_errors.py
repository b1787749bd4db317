"""What Lightning, torch and loggers say of settings, in one line; `--ckpt_path last`."""

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from vos_umec.cli.main import main
from vos_umec.cli.others_errors import in_one_line
from vos_umec.errors import ConfigError, DataError, VosUmecError

FIT = ["fit", "--config=configs/folder.yaml", "--data.root=clips", "--trainer.enable_model_summary=false"]
FIT += ["--data.short_side=40", "--data.crop=32", "--data.clip_length=3", "--data.num_workers=0"]
FIT += ["--trainer.enable_progress_bar=false", "--refresh.warmup_epochs=9", "--trainer.precision=32-true"]


@pytest.fixture(autouse=True)
def clips(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips" / "a").mkdir(parents=True)
    for t in range(12):
        Image.effect_noise((48, 40), 80 + t).convert("RGB").save(tmp_path / "clips" / "a" / f"{t:02d}.png")


def last_line(capsys) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trainer.accelerator=gpu"], ["accelerator gpu", "leave them out", "cpu"]),
        (["--trainer.accelerator=toaster"], ["accelerator toaster", "invalid accelerator"]),
        (["--trainer.accelerator=cpu", "--trainer.devices=-1"], ["devices -1"]),
        (["--trainer.strategy=fsdp"], ["strategy fsdp", "GPU"]),
        (["--trainer.strategy=toaster"], ["strategy toaster"]),
        (["--trainer.val_check_interval=100"], ["val_check_interval"]),
        (["--data.num_workers=-1"], ["num_workers is -1"]),
        (["--ckpt_path=hpc"], ["hpc"]),
        (["--ckpt_path=last"], ["finds no checkpoint", "runs/folder", "leave --ckpt_path out"]),
    ],
)
def test_a_setting_that_does_not_fit_ends_in_one_line(options, words, capsys):
    assert main([*FIT, *options]) == 1
    line = last_line(capsys)
    assert line.startswith("vos-umec: error: ")
    assert [word for word in words if word not in line] == []


def test_a_logger_that_is_not_installed_does_not_stop_the_run(capsys, caplog, monkeypatch):
    monkeypatch.setattr("vos_umec.cli.trainer.find_spec", lambda name: None)
    logger = "--trainer.logger={class_path: TensorBoardLogger, init_args: {save_dir: figures, name: x}}"
    assert main([*FIT, "--trainer.max_steps=1", "--trainer.log_every_n_steps=1", logger]) == 0, (
        capsys.readouterr().err
    )
    assert "tensorboard is not installed" in caplog.text
    assert Path("figures/x/version_0/config.yaml").is_file()
    assert Path("figures/x/version_0/metrics.csv").is_file()


@pytest.mark.slow
def test_a_csv_is_kept_beside_other_loggers_and_the_run_is_recorded(capsys):
    logger = "--trainer.logger={class_path: TensorBoardLogger, init_args: {save_dir: figures, name: x}}"
    assert main([*FIT, "--trainer.max_steps=1", "--trainer.log_every_n_steps=1", logger]) == 0
    run = Path("figures/x/version_0")
    assert "train/loss" in (run / "metrics.csv").read_text()
    assert list(run.parent.glob("version_*/events*"))
    record = json.loads((run / "run.json").read_text())
    assert record["command"] == ["vos-umec", *FIT, "--trainer.max_steps=1", "--trainer.log_every_n_steps=1", logger]
    assert record["seconds"] > 0
    assert record["outcome"] == "ended"
    assert f"vos-umec report {run}" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
def test_last_is_the_newest_run_of_that_name(capsys, caplog):
    steps = ["--trainer.max_epochs=1"]
    assert main([*FIT, *steps]) == 0
    assert main([*FIT, *steps]) == 0
    first, second = (Path(f"runs/folder/version_{n}/checkpoints/last.ckpt") for n in (0, 1))
    assert main([*FIT, "--trainer.logger.name=other", "--ckpt_path=last"]) == 1
    assert "runs/other" in last_line(capsys)
    second.write_bytes(second.read_bytes()[:-50])  # as a copy that was cut short
    for path in second.parent.glob("epoch*"):
        path.unlink()
    os.utime(first, (1, 1))
    assert main([*FIT, "--trainer.max_epochs=2", "--ckpt_path=last"]) == 0
    assert "cut short" in caplog.text
    assert "--ckpt_path last is runs/folder/version_0/checkpoints/" in caplog.text
    state = torch.load("runs/folder/version_2/checkpoints/last.ckpt", weights_only=True)
    assert state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 2


def test_errors_of_other_packages_are_told_apart():
    with pytest.raises(VosUmecError, match=r"memory is used up \(CUDA is full\).*batch_size"), in_one_line():
        raise torch.OutOfMemoryError("CUDA is full. Tried to allocate 2 GiB")
    with pytest.raises(VosUmecError, match="num_workers"), in_one_line():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    with pytest.raises(DataError, match="ours"), in_one_line():
        raise ValueError("jsonargparse's") from DataError("ours")
    with pytest.raises(ConfigError, match="No module named 'nothing_at_all'"), in_one_line():
        import nothing_at_all  # noqa: F401
    with pytest.raises(ZeroDivisionError), in_one_line():  # a fault of ours keeps its traceback
        _ = 1 // 0
