"""Encoders alone and published weights through the module, its checkpoints and the commands."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Trainer
from torchvision.models import resnet18

from vos_umec import EncodedClip, PropagationNetwork, UMECModule, VideoSegmenter, load
from vos_umec.cli.main import main
from vos_umec.errors import ConfigError
from vos_umec.io.masks import read_mask, write_mask
from vos_umec.models.model_file import write_model
from vos_umec.training.checkpoint import load_module

ALONE = {"encoder": {"class_path": "vos_umec.TrunkEncoder"}}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    net = resnet18()
    torch.save({"state_dict": {f"module.{name}": x for name, x in net.state_dict().items()}}, tmp_path / "net.pth")
    return tmp_path / "net.pth", net.layer3[1].conv2.weight.detach()


def save(module, path):
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)


def test_weights_are_in_the_network_and_named_in_log_and_checkpoint(weights, tmp_path, caplog):
    file, conv = weights
    with caplog.at_level(logging.INFO, "vos_umec"):
        module = UMECModule(ALONE, init_from={"encoder": str(file), "used_labels": False})
    assert torch.equal(module.network.encoder.net.stages[2][1].conv2.weight, conv)
    assert "net.pth" in caplog.text
    assert "without labels" in caplog.text
    save(module, tmp_path / "a.ckpt")
    file.unlink()  # the checkpoint holds all that is needed
    network = load(tmp_path / "a.ckpt")
    assert isinstance(network, PropagationNetwork)
    assert torch.equal(network.encoder.net.stages[2][1].conv2.weight, conv)
    again = UMECModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert again.started_from == [{"encoder": str(file), "used_labels": False}]


def test_a_whole_model_may_start_from_them_too(weights, caplog):
    module = UMECModule("resnet18", init_from={"encoder": str(weights[0]), "used_labels": True})
    assert torch.equal(module.network.encoder.net.stages[2][1].conv2.weight, weights[1])
    assert [r.levelname for r in caplog.records if "trained WITH labels" in r.message] == ["WARNING"]


def test_whether_labels_were_used_must_be_said(weights):
    with pytest.raises(ConfigError, match=r"net\.pth.*used_labels: true"):
        UMECModule(ALONE, init_from={"encoder": str(weights[0])})


@pytest.mark.parametrize("changes", [{}, {"encoder": {}}, {"encoder": ALONE["encoder"], "decoder": {}}])
def test_an_encoder_alone_is_named_by_its_class(changes):
    with pytest.raises(ConfigError, match=r"vos_umec\.TrunkEncoder"):
        UMECModule(changes)


def test_an_encoder_alone_trains_on_correspondence_only():
    small = {"encoder": {"class_path": "vos_umec.TrunkEncoder", "init_args": {"blocks": [1, 1], "strides": [1, 1]}}}
    module = UMECModule(small)
    clip = EncodedClip(module.network.encoder, torch.rand(2, 4, 3, 32, 32), torch.arange(4).expand(2, 4))
    assert module.segmentation_step(clip, torch.ones(2, 4, 32, 32, dtype=torch.uint8)) is None
    assert module.objectives[0](clip)["loss"].requires_grad


def test_the_whole_model_takes_an_encoder_by_its_class(tmp_path):
    own = {"class_path": "vos_umec.TimmEncoder", "init_args": {"name": "resnet18", "stride": 8, "key_dim": 16}}
    module = UMECModule(
        {"preset": "compact", "encoder": own, "mask_encoder": {"blocks": [1, 1, 1], "strides": [1, 2, 2]}}
    )
    assert type(module.network).__name__ == "UMEC"
    assert module.network.encoder.key_dim == 16
    clip = EncodedClip(module.network.encoder, torch.rand(2, 4, 3, 32, 32), torch.arange(4).expand(2, 4))
    square = torch.zeros(2, 4, 32, 32, dtype=torch.uint8)
    square[..., 8:24, 8:24] = 1
    assert module.segmentation_step(clip, square).requires_grad
    write_model(module.network, tmp_path / "m.safetensors", module.description())
    again = load_module(tmp_path / "m.safetensors").network.state_dict()
    assert again.keys() == module.network.state_dict().keys()
    with pytest.raises(ConfigError, match="the encoder has stride 8 and the frame-mask encoder 4"):
        UMECModule({"preset": "compact", "encoder": own})


@pytest.fixture
def davis(tmp_path):
    """One sequence in DAVIS's layout."""
    frames, masks = (tmp_path / kind / "480p" / "dot" for kind in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True)
    for t in range(4):
        frame, mask = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
        frame[8:32, 4 * t : 4 * t + 24], mask[8:32, 4 * t : 4 * t + 24] = 200, 1
        Image.fromarray(frame).save(frames / f"{t:05d}.jpg")
        write_mask(masks / f"{t:05d}.png", mask)
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("dot")
    return tmp_path


def test_the_test_command_scores_a_published_file_without_training(weights, davis, monkeypatch):
    monkeypatch.chdir(davis)
    arguments = ["--config", "configs/propagation.yaml", f"--data.root={davis}", "--trainer.logger.save_dir=runs"]
    arguments += ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    given = [f"--model.init_from.encoder={weights[0]}", "--model.init_from.used_labels=false"]
    assert main(["test", *arguments, *given]) == 0
    (table,) = davis.glob("runs/propagation/version_0/metrics.csv")
    columns = table.read_text().splitlines()[0]
    assert "val/J&F" in columns
    assert "val/copy_first_mask/J&F" in columns

    module = UMECModule(ALONE, init_from={"encoder": str(weights[0]), "used_labels": False})
    save(module, "a.ckpt")
    weights[0].unlink()
    assert main(["test", *arguments, *given, "--ckpt_path=a.ckpt"]) == 0  # from the checkpoint, the file gone
    mask, out = davis / "Annotations/480p/dot/00000.png", davis / "out"
    place = [str(davis / "JPEGImages/480p/dot"), "--mask", str(mask), "--out", str(out), "--checkpoint", "a.ckpt"]
    assert main(["segment", *place, "--protocol", "dino", "--device", "cpu"]) == 0
    found = [read_mask(path) for path in sorted((out / "masks").iterdir())]
    segmenter = VideoSegmenter.from_protocol(load("a.ckpt"), "dino")
    frames = [np.asarray(Image.open(path)) for path in sorted((davis / "JPEGImages/480p/dot").iterdir())]
    for t, frame in enumerate(frames):
        assert np.array_equal(found[t], segmenter.step(frame, read_mask(mask) if t == 0 else None))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("--model.evaluation.segmenter.protocol=crv", "unknown protocol 'crv'; the protocols are crw, dino, umec"),
        ("--model.evaluation.segmenter.protocol=umec", "rounds of refinement need a frame-mask encoder"),
        ("--model.init_from.encoder=no.pth", "used_labels"),
    ],
)
def test_what_cannot_be_tested_ends_in_one_line(wrong, words, davis, capsys, monkeypatch):
    monkeypatch.chdir(davis)
    arguments = ["--config", "configs/propagation.yaml", f"--data.root={davis}", "--trainer.logger=false", wrong]
    assert main(["test", *arguments]) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vos-umec: error:")]
    assert len(error) == 1
    assert words in error[0]
