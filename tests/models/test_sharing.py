"""Models as folders and as names on the Hub, for which a server on this machine stands in."""

import importlib.util
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

import vos_umec
from vos_umec import UMEC, PropagationNetwork, load, load_segmenter
from vos_umec.errors import CheckpointError, ConfigError, MissingDependencyError
from vos_umec.models import hub
from vos_umec.models.description import Description
from vos_umec.models.factory import build_network
from vos_umec.models.hub import find_model
from vos_umec.models.model_card import model_card
from vos_umec.models.model_file import read_description
from vos_umec.training.checkpoint import load_module

OWN = {"rounds": 1, "short_side": 48, "readout": {"top_k": 5}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    network = build_network("tiny").eval()
    started = [{"path": "/home/somebody/private/start.ckpt", "parts": ["encoder"]}]
    network.description = Description("tiny", OWN, started)
    place = tmp_path_factory.mktemp("shared") / "small"
    network.save_pretrained(place)
    return place


class Hub(BaseHTTPRequestHandler):
    """What `hf_hub_download` asks the Hub for: a file of a model, at a revision."""

    files: dict[str, bytes]
    asked: list[tuple[str, str]]
    stated: int | None

    def do_HEAD(self):
        if "/resolve/" in self.path:  # it asks for other things too, once a day
            self.asked.append((self.command, self.path))
        content = self.files.get(self.path)
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", '"0123456789abcdef"')
            self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Content-Length", str(self.stated or len(content or b"")))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.files.get(self.path, b""))

    def log_message(self, *_):
        pass


def serve_from(address, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def served(folder, tmp_path, monkeypatch) -> type[Hub]:
    """A Hub that has one model, team/small, at main and at v1."""
    content = (folder / "model.safetensors").read_bytes()
    paths = [f"/team/small/resolve/{revision}/model.safetensors" for revision in ("main", "v1")]
    handler = type("Served", (Hub,), {"files": dict.fromkeys(paths, content), "asked": [], "stated": None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    serve_from(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield handler
    server.shutdown()
    server.server_close()


def test_a_folder_comes_back_as_the_network_and_the_segmenter_that_went_in(folder):
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    network, again = load(folder), UMEC.from_pretrained(folder)
    assert type(network) is type(again) is UMEC
    assert not network.training
    given = build_network("tiny").state_dict()
    for (name, x), y in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
        assert x.shape == given[name].shape
    assert network.description.segmenter == OWN
    segmenter = load_segmenter(folder)
    assert (segmenter.short_side, segmenter.rounds) == (48, 1)
    with pytest.raises(CheckpointError, match="is a UMEC and no EncoderOnly"):
        type("EncoderOnly", (PropagationNetwork,), {}).from_pretrained(folder)


def test_config_is_plain_values_and_names_no_folder_of_the_machine(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["network"] == "tiny"
    assert config["segmenter"] == OWN
    assert config["started_from"] == [{"path": "start.ckpt", "parts": ["encoder"]}]
    assert read_description(folder / "model.safetensors").started_from == config["started_from"]
    assert all(b"private" not in path.read_bytes() for path in folder.iterdir())


def test_a_card_that_somebody_has_completed_stays(folder, tmp_path):
    network = load(folder)
    for _ in range(2):
        network.save_pretrained(tmp_path / "again")
        (tmp_path / "again" / "README.md").write_text("completed")
    assert (tmp_path / "again" / "README.md").read_text() == "completed"
    torch.testing.assert_close(load(tmp_path / "again").state_dict(), network.state_dict(), atol=0, rtol=0)


def test_a_network_put_together_by_hand_says_how_to_share_it(tmp_path):
    network = build_network("tiny")
    with pytest.raises(ConfigError, match="build_network"):
        UMEC(network.encoder, network.mask_encoder, network.decoder).save_pretrained(tmp_path)


def test_a_module_shares_its_network_with_the_settings_of_its_validation(folder, tmp_path):
    module = vos_umec.UMECModule("tiny", evaluation={"segmenter": OWN})
    module.network.save_pretrained(tmp_path)
    assert load_segmenter(tmp_path).short_side == 48
    load_module(folder).network.save_pretrained(tmp_path)  # where its training started stays known
    assert load(tmp_path).description.started_from == [{"path": "start.ckpt", "parts": ["encoder"]}]


def test_the_hub_reads_the_cards_head(folder):
    from huggingface_hub import ModelCard

    card = ModelCard((folder / "README.md").read_text())
    assert card.data.library_name == "vos_umec"
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.license is None  # for the user to fill in
    assert "video-object-segmentation" in card.data.tags
    known = model_card(Description("tiny"), 1, {"license": "cc-by-4.0", "steps": 3})
    assert ModelCard(known).data.license == "cc-by-4.0"
    assert "| steps | 3 |" in known


def test_what_a_card_is_given_stays_in_its_cell():
    note = "a | b\n# Heading <script>alert(1)</script> [x](javascript:1)"
    text = model_card(Description("tiny", started_from=[{"path": note, "used_labels": True}]), 1, {"data": note})
    assert "<script" not in text
    assert "\n# Heading" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert "not self-supervised" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| data"))
    assert row.replace("\\|", "").count("|") == 3


def test_a_card_shows_only_scores_that_there_are():
    scores = {"J&F": 0.5, "J-Mean": 0.25, "objects": [{"sequence": "a"}, {"sequence": "a"}, {"sequence": "b"}]}
    text = model_card(Description("tiny"), 1, {}, scores)
    assert "over 3 objects in 2 sequences" in text
    assert "| 50.0 | 25.0 |" in text
    assert "## Scores" not in model_card(Description("tiny"), 1, {})
    with pytest.raises(ConfigError, match="evaluate --json"):
        model_card(Description("tiny"), 1, {}, {"objects": []})


def test_a_name_on_the_hub_is_fetched_once_and_nothing_but_its_weights(folder, served):
    network = load("team/small")
    torch.testing.assert_close(network.state_dict(), load(folder).state_dict(), atol=0, rtol=0)
    assert load_segmenter("team/small@v1").short_side == 48
    assert UMEC.from_pretrained("team/small", revision="v1").stride == 4
    assert {path.rsplit("/")[-1] for _, path in served.asked} == {"model.safetensors"}
    assert [method for method, _ in served.asked].count("GET") == 1


def test_what_the_hub_does_not_have_is_one_clear_line(served, tmp_path):
    with pytest.raises(
        CheckpointError, match=r"no file or folder team/large is here, and the Hub gives no model\."
    ):
        load("team/large")
    assert all("large" in path for _, path in served.asked)
    asked = len(served.asked)
    (tmp_path / "team").mkdir()
    for path in ("runs/last.ckpt", "runs/a.safetensors", "../x", "a/b/c", "./team/small", "/team/small"):
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            load(path)
    (tmp_path / "team" / "small").mkdir()
    with pytest.raises(CheckpointError, match=r"the folder team/small holds no model\.safetensors"):
        load("team/small")  # what is here counts
    assert len(served.asked) == asked


def test_a_file_that_is_too_large_is_not_fetched(served):
    served.stated = 2**40
    with pytest.raises(CheckpointError, match="1099511627776 bytes, more than are read"):
        load("team/small")
    assert {method for method, _ in served.asked} == {"HEAD"}


def test_without_a_network_or_the_package_the_line_says_so(served, monkeypatch):
    serve_from("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between its five tries
    with pytest.raises(CheckpointError, match="the Hub cannot be reached"):
        load("team/small")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vos-umec\[hub\]'"):
        load("team/small")


def test_folders_work_where_huggingface_hub_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    spec = importlib.util.spec_from_file_location("hub_alone", hub.__file__)
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    made = type("Made", (nn.Module, alone.SharedModel), {})()
    tiny = build_network("tiny")
    made.encoder, made.mask_encoder, made.decoder = tiny.encoder, tiny.mask_encoder, tiny.decoder
    made.description = Description("tiny")
    made.save_pretrained(tmp_path / "m")
    assert load(tmp_path / "m").stride == 4
    with pytest.raises(MissingDependencyError, match=r"push_to_hub needs .*vos-umec\[hub\]"):
        made.push_to_hub("team/small")


@pytest.mark.parametrize("given", [None, b"team/small", 3])
def test_what_is_no_path_is_one_clear_error(given):
    with pytest.raises(CheckpointError, match=f"named by a path; found {type(given).__name__}"):
        find_model(given)
