import errno
import logging
import os
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.io import TorchCheckpointIO

from vos_umec import UMECModule
from vos_umec.errors import CheckpointError
from vos_umec.training.checkpoint_files import AtomicCheckpointIO, newest_checkpoint, read_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "whole.ckpt"
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(UMECModule("tiny"))
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch, call):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def test_training_writes_that_way_unless_another_is_chosen():
    class Own(TorchCheckpointIO):
        pass

    for plugins, expected in (([], AtomicCheckpointIO), ([Own()], Own)):
        trainer = Trainer(
            accelerator="cpu", plugins=plugins, logger=False, max_epochs=0, enable_checkpointing=False
        )
        trainer.fit(UMECModule("tiny"), [])
        assert type(trainer.strategy.checkpoint_io) is expected


def test_the_newest_whole_checkpoint_is_found(checkpoint, tmp_path, caplog):
    assert newest_checkpoint([tmp_path, tmp_path / "missing"]) is None
    data = checkpoint.read_bytes()
    for time, (name, content) in enumerate({"b": data, "a": data, "cut": data[:-100], "other": b"text"}.items()):
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(content)
        os.utime(path, (time, time))
    (tmp_path / ".a.ckpt.12.tmp").write_bytes(data[:100])
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint([tmp_path]) == tmp_path / "a.ckpt"
    assert [record.getMessage().count("the one before it") for record in caplog.records] == [1, 1]
    with pytest.raises(CheckpointError, match=r"cut.ckpt is not a checkpoint .*cut short"):
        read_checkpoint(tmp_path / "cut.ckpt")
