import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from safetensors.torch import save_file

from vos_umec import UMECModule, load
from vos_umec.cli.main import main
from vos_umec.errors import CheckpointError, ConfigError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.models.model_file import read_card, read_description, write_model
from vos_umec.shipped import SHIPPED
from vos_umec.training.checkpoint import load_module

SEGMENTER = {"rounds": 1, "short_side": 32, "references": 2}


def write(module, path, card=None):
    write_model(module.network, path, module.description(), card)


@pytest.fixture
def module() -> UMECModule:
    torch.manual_seed(0)
    made = UMECModule({"preset": "compact", "encoder": {"key_dim": 16}}, evaluation={"segmenter": SEGMENTER})
    made.network.train().encoder(torch.rand(2, 3, 32, 32))  # so that the norms have seen something
    return made


def test_a_model_file_rebuilds_the_network_to_half_precision_and_its_readout(module, tmp_path):
    write(module, tmp_path / "m.safetensors", {"minutes": 30})
    again = load_module(tmp_path / "m.safetensors")
    assert again.evaluation.segmenter == SEGMENTER
    assert not again.training
    assert read_card(tmp_path / "m.safetensors") == {"minutes": 30}
    for (name, old), new in zip(
        module.network.state_dict().items(), again.network.state_dict().values(), strict=True
    ):
        assert new.dtype == old.dtype, name
        exact = old.dim() <= 1
        torch.testing.assert_close(new, old, atol=0 if exact else 1e-4, rtol=0 if exact else 1e-3)
    file, plain = tmp_path / "m.safetensors", tmp_path / "plain"
    assert file.stat().st_size < 2**21
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode  # others may read it as any file


class Grey(UMECModule):
    """The same tensors as the base's, another forward."""

    def build_network(self):
        network = super().build_network()
        network.encoder.register_forward_pre_hook(
            lambda _, frames: (frames[0].mean(dim=1, keepdim=True) + 0 * frames[0],)
        )
        return network


def saved(module: UMECModule, path):
    trainer = Trainer(accelerator="cpu", logger=False, max_epochs=0, enable_model_summary=False)
    trainer.fit(module, torch.utils.data.DataLoader([0]))
    trainer.save_checkpoint(path)
    return path


def test_a_checkpoint_comes_back_as_the_class_that_wrote_it(tmp_path, caplog):
    module = Grey(network="tiny")
    path = saved(module, tmp_path / "grey.ckpt")
    assert type(load_module(path)) is Grey
    frames = torch.rand(1, 3, 32, 32)
    assert torch.equal(load(path).encoder(frames).key, module.eval().network.encoder(frames).key)
    with pytest.raises(CheckpointError, match=r"Grey .*keep the checkpoint"):
        write_model(module.network, tmp_path / "grey.safetensors", read_description(path))


def test_a_class_that_cannot_be_imported_is_named(tmp_path):
    class Local(UMECModule):
        pass

    with pytest.raises(CheckpointError, match=r"Local.*load_from_checkpoint"):
        load_module(saved(Local(network="tiny"), tmp_path / "local.ckpt"))


def test_a_checkpoint_of_another_library_is_told_in_one_line(tmp_path, capsys):
    path = tmp_path / "other.ckpt"
    torch.save({"hyper_parameters": {}, "state_dict": {}}, path)
    with pytest.raises(CheckpointError, match=r"other\.ckpt.*vos-umec export"):
        load_module(path)
    assert main(["test", "--config=configs/davis17.yaml", f"--ckpt_path={path}"]) == 1
    assert str(path) in capsys.readouterr().err.splitlines()[-1]


def test_training_starts_from_a_model_file_or_a_checkpoint(module, tmp_path):
    write(module, tmp_path / "m.safetensors")
    saved(module, tmp_path / "c.ckpt")
    for file, tolerance in (("m.safetensors", 1e-3), ("c.ckpt", 0.0)):
        other = UMECModule({"preset": "compact", "encoder": {"key_dim": 16}}, init_from=str(tmp_path / file))
        for old, new in zip(module.network.parameters(), other.network.parameters(), strict=True):
            torch.testing.assert_close(new, old, atol=1e-4 if tolerance else 0.0, rtol=tolerance)
    with pytest.raises(CheckpointError, match="another network"):
        UMECModule(network="compact", init_from=str(tmp_path / "c.ckpt"))


def test_training_may_start_from_one_part_alone(module, tmp_path):
    saved(module, tmp_path / "c.ckpt")
    start = {"path": str(tmp_path / "c.ckpt"), "parts": ["encoder"]}
    changes = {"encoder": {"key_dim": 16}, "mask_encoder": {"mask_dim": 8}}  # V is another one
    other = UMECModule({"preset": "compact", **changes}, init_from=start)
    assert other.started_from == [start]
    for old, new in zip(module.network.encoder.parameters(), other.network.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old)
    with pytest.raises(CheckpointError, match="another network"):
        UMECModule("compact", init_from=start)
    with pytest.raises(ConfigError, match=r"head.*encoder, mask_encoder, decoder"):
        UMECModule("compact", init_from={**start, "parts": ["head"]})


def test_files_that_are_no_models_are_told(module, tmp_path):
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors"):
        write(module, tmp_path / "m.bin")
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name in ("broken", "other", "none"):
        with pytest.raises(CheckpointError, match=rf"{name}\.safetensors"):
            load_module(tmp_path / f"{name}.safetensors")


def test_the_shipped_model_is_small_and_follows_a_square():
    assert SHIPPED.stat().st_size <= 10 * 2**20
    card = read_card(SHIPPED)
    assert {"data", "minutes", "recipe"} <= card.keys()
    settings = read_description(SHIPPED).segmenter
    ramp = np.linspace(60, 160, 192)
    ground = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 90.0), axis=-1).astype(np.uint8)
    square = np.full((48, 48, 3), (200, 40, 60), np.uint8)
    square[::8] = 250  # stripes
    segmenter = VideoSegmenter.from_protocol(load(), **settings)
    for t in range(5):
        frame, mask = ground.copy(), np.zeros((192, 192), np.uint8)
        at = slice(40 + 8 * t, 88 + 8 * t), slice(60, 108)
        frame[at], mask[at] = square, 3
        found = segmenter.step(frame, mask if t == 0 else None)
    overlap = ((found == 3) & (mask == 3)).sum() / ((found == 3) | (mask == 3)).sum()
    assert overlap > 0.8


def test_a_module_in_the_current_folder_is_run_only_if_that_folder_is_chosen(module, tmp_path, monkeypatch):
    """An archive of a stranger may hold a model and code beside it; the user's own folder is on PYTHONPATH."""
    (tmp_path / "my_encoder_here.py").write_text("raise SystemExit('the code has run')")
    network = {"preset": None, "encoder": {"class_path": "my_encoder_here.Net"}}
    description = replace(module.description(), network=network)
    write_model(module.network, tmp_path / "m.safetensors", description)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])  # as the command does
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(CheckpointError, match=r"my_encoder_here in the current folder.*PYTHONPATH=\."):
        load("m.safetensors")
    monkeypatch.setenv("PYTHONPATH", ".")
    with pytest.raises(SystemExit, match="the code has run"):
        load("m.safetensors")
