"""`vos-umec export`: settings that are given replace the model's, the others stay."""

import pytest

from vos_umec import UMECModule
from vos_umec.cli.main import main
from vos_umec.models.model_file import read_card, write_model
from vos_umec.training.checkpoint import load_module

OWN = {"rounds": 1, "short_side": 64, "readout": {"top_k": 5, "radius": 9}}


@pytest.fixture
def words(tmp_path) -> list[str]:
    write_model(UMECModule(network="tiny", segmenter=OWN), tmp_path / "a.safetensors")
    return ["export", str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "b.safetensors")]


def test_options_and_notes_are_in_the_file(words, tmp_path):
    options = ["--rounds", "0", "--radius", "5", "--pyramid-weights", "[1, 0.5]", "--note.data", "two clips"]
    assert main([*words, *options, "--note.minutes=60"]) == 0
    again = load_module(tmp_path / "b.safetensors")
    assert again.hparams["segmenter"] == {**OWN, "rounds": 0, "readout": {"top_k": 5, "radius": 5.0}}
    assert again.network.encoder.pyramid_weights == (1.0, 0.5)
    assert read_card(tmp_path / "b.safetensors") == {"data": "two clips", "minutes": "60"}


def test_a_protocol_replaces_all_settings_of_the_model(words, tmp_path):
    assert main([*words, "--protocol", "crw", "--top-k", "7"]) == 0
    settings = load_module(tmp_path / "b.safetensors").hparams["segmenter"]
    assert settings == {"protocol": "crw", "readout": {"top_k": 7}}


@pytest.mark.parametrize("wrong", ["--top-k=0", "--pyramid-weights=[1,0]", "--protocol=best", "--crop-margin=-1"])
def test_wrong_settings_write_nothing(wrong, words, tmp_path, capsys):
    assert main([*words, wrong]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "b.safetensors").exists()
