"""The objective and the encoder that CONTRIBUTING adds in its walks learn."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from vos_umec import UMECModule

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """The folder of the files that the guide shows, each named in its first line."""
    for block in re.findall(r"```(?:python|yaml)\n(.*?)```", GUIDE, flags=re.DOTALL):
        name = re.match(r"# ([\w.]+)", block)[1]
        (tmp_path / name).write_text(block)
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)  # other pages have files of these names
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("name", ["slowness", "small"])
def test_an_addition_of_the_guide_learns(files, name):
    settings = yaml.safe_load((files / f"{name}.yaml").read_text())["model"]["init_args"]
    module = UMECModule(**{"network": "tiny", **settings})
    parts = [*module.objectives, module.network.encoder]
    assert "my_" in " ".join(type(part).__module__ for part in parts)
    torch.manual_seed(0)
    segments = (torch.arange(32) // 8).to(torch.uint8).expand(2, 3, 32, 32)
    clips = {
        "frames": torch.rand(2, 3, 3, 32, 32),
        "frame_indices": torch.arange(3).expand(2, 3),
        "segments": segments,
    }
    module.training_step(clips, 0).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.network.parameters())
