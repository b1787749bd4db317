"""`vos-umec export`: settings that are given replace the model's, the others stay."""

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from huggingface_hub import ModelCard

import vos_umec
from vos_umec import UMECModule, load, load_segmenter
from vos_umec.cli.main import main
from vos_umec.io.written import RECORD
from vos_umec.models.factory import build_network
from vos_umec.models.model_file import read_card, write_model
from vos_umec.training.checkpoint import load_module

OWN = {"rounds": 1, "short_side": 64, "readout": {"top_k": 5, "radius": 9}}


@pytest.fixture
def words(tmp_path) -> list[str]:
    module = UMECModule(network="tiny", evaluation={"segmenter": OWN})
    write_model(module.network, tmp_path / "a.safetensors", module.description())
    return ["export", str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "b.safetensors")]


def test_options_and_notes_are_in_the_file(words, tmp_path):
    options = ["--rounds", "0", "--radius", "5", "--pyramid-weights", "[1, 0.5]", "--note.data", "two clips"]
    assert main([*words, *options, "--note.minutes=60"]) == 0
    again = load_module(tmp_path / "b.safetensors")
    assert again.evaluation.segmenter == {**OWN, "rounds": 0, "readout": {"top_k": 5, "radius": 5.0}}
    assert again.network.encoder.pyramid_weights == (1.0, 0.5)
    assert read_card(tmp_path / "b.safetensors") == {"data": "two clips", "minutes": "60"}


def test_a_protocol_replaces_all_settings_of_the_model(words, tmp_path):
    assert main([*words, "--protocol", "crw", "--top-k", "7"]) == 0
    settings = load_module(tmp_path / "b.safetensors").evaluation.segmenter
    assert settings == {"protocol": "crw", "readout": {"top_k": 7}}


@pytest.mark.parametrize("wrong", ["--top-k=0", "--pyramid-weights=[1,0]", "--protocol=best", "--crop-margin=-1"])
def test_wrong_settings_write_nothing(wrong, words, tmp_path, capsys):
    assert main([*words, wrong]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "b.safetensors").exists()


def test_a_folder_has_a_card_with_what_the_checkpoint_tells(checkpoint, tmp_path):
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"J&F": 0.625, "objects": [{"sequence": "dog", "object": 1}]}))
    words = ["export", str(checkpoint), "--out", str(tmp_path / "m"), "--rounds=1", "--note.license=cc-by-4.0"]
    assert main([*words, "--scores", str(scores), "--note.data", "38 clips"]) == 0
    assert read_card(tmp_path / "m" / "model.safetensors") == {
        "steps": 0,
        "epochs": 1,
        "objectives": [{"vos_umec.EquivarianceObjective": {}}],
        "freeze_encoder": False,
        "learning_rate": 1e-4,
        "weight_decay": 5e-4,
        "license": "cc-by-4.0",
        "data": "38 clips",
    }
    card = (tmp_path / "m" / "README.md").read_text()
    assert ModelCard(card).data.license == "cc-by-4.0"
    assert "| data | 38 clips |" in card
    assert "| 62.5 |" in card
    assert load_segmenter(tmp_path / "m").rounds == 1
    # What is known of a model file goes on into the next one.
    assert main(["export", str(tmp_path / "m"), "--out", str(tmp_path / "one.safetensors"), "--note.more=x"]) == 0
    assert {"data": "38 clips", "more": "x"}.items() <= read_card(tmp_path / "one.safetensors").items()


def test_what_somebody_completed_is_never_replaced_unasked(words, tmp_path, capsys):
    folder = [*words[:-1], str(tmp_path / "m")]
    for out in (words, folder):
        assert main(out) == main(out) == 0  # its own
    for out, file in ((words, tmp_path / "b.safetensors"), (folder, tmp_path / "m" / "README.md")):
        file.write_text("mine")
        assert main(out) == 1
        assert file.read_text() == "mine"
        assert f"{file.name}" in (told := capsys.readouterr().err)
        assert "--overwrite" in told
        assert main([*out, "--overwrite"]) == 0
        assert file.read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--out", "m.bin"], "a model file ends in .safetensors; found --out m.bin"),
        (["--out", "m.onnx", "--format", "onnx"], "the parts as onnx go into a folder; found --out m.onnx"),
        (["--out", "a.safetensors", "--scores", "s"], "--scores are for the card of a folder"),
        (["--out", "m", "--scores", "none.json"], "cannot read scores from none.json"),
        (["--out", ""], "--out is empty; give a path"),
    ],
)
def test_places_and_scores_that_cannot_be_are_told_in_one_line(more, told, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words[:2], *more]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_onnx_without_its_packages_is_told_in_one_line(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vos_umec.models.parts.find_spec", lambda name: None)
    assert main([*words[:-1], str(tmp_path / "parts"), "--format", "onnx"]) == 1
    assert "pip install 'vos-umec[export]'" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torch-export"])
def test_parts_compute_what_the_network_does_at_sizes_that_the_export_has_not_seen(kind, tmp_path, capsys):
    # Lab, two levels of the pyramid, evidence, a stage at full size; D's last conv would be 0 without training.
    network = build_network({"preset": "compact", "encoder": {"pyramid_weights": [1, 0.5]}})
    torch.nn.init.normal_(network.decoder.out.weight)
    write_model(network, tmp_path / "model.safetensors", network.description)
    out = tmp_path / "parts"
    words = ["export", str(tmp_path / "model.safetensors"), "--out", str(out), "--format", kind]
    assert main(words) == 0
    ending = {"onnx": "onnx", "torch-export": "pt2"}[kind]
    files = [f"{name}.{ending}" for name in ("encoder", "mask_encoder", "decoder")]
    assert {path.name for path in out.iterdir()} == {RECORD, "README.md", "config.json", *files}
    printed = capsys.readouterr().out
    assert all(f"{file}: " in printed for file in files)
    assert printed.count("from eager on two other sizes") == 3
    sources = str(Path(vos_umec.__file__).parent).encode()
    assert not [file for file in files if sources in (out / file).read_bytes()]  # nothing of this machine
    card = (out / "README.md").read_text()
    assert ModelCard(card).data.library_name == "vos_umec"
    assert all(f"| {file.replace('_', chr(92) + '_')} | " in card for file in files)

    network = load(tmp_path / "model.safetensors")
    frame, mask = torch.randn(2, 3, 44, 60), torch.rand(2, 1, 44, 60)  # 11 x 15 cells: odd, where levels round
    features = network.encoder(frame)
    embedding = network.mask_encoder(frame, mask, features.trunk)
    evidence = torch.rand(2, 4, 11, 15)
    D = network.decoder
    logits = D(D.precompute_object(embedding, evidence), embedding, D.precompute(features.skips, frame), mask)
    given = {
        "encoder": {"frame": frame},
        "mask_encoder": {"frame": frame, "mask": mask, "trunk": features.trunk},
        "decoder": {
            "readout": embedding,
            "embedding": embedding,
            "mask": mask,
            **{f"skip_{i}": skip for i, skip in enumerate(features.skips)},
            "frame": frame,
            "evidence": evidence,
        },
    }
    expected = {
        "encoder": [features.key, features.trunk, *features.skips],
        "mask_encoder": [embedding],
        "decoder": [logits],
    }
    about = json.loads((out / "config.json").read_text())
    for name, inputs in given.items():
        assert list(about["parts"][f"{name}.{ending}"]["inputs"]) == list(inputs)
        if kind == "onnx":
            session = onnxruntime.InferenceSession(str(out / f"{name}.onnx"))
            found = session.run(None, {key: x.detach().numpy() for key, x in inputs.items()})
        else:
            found = torch.export.load(out / f"{name}.pt2").module()(*inputs.values())
        for ours, eager in zip(found, expected[name], strict=True):
            torch.testing.assert_close(torch.as_tensor(ours), eager.detach(), atol=1e-4, rtol=1e-3)
