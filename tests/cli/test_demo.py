"""`vos-umec demo`, on fewer and shorter videos."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from vos_umec.cli.main import main
from vos_umec.io.source import open_source

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


@pytest.mark.slow
def test_the_demo_trains_scores_and_shows(tmp_path, monkeypatch, capsys):
    config = yaml.safe_load(QUICKSTART.read_text())
    config["data"]["init_args"].update(train_videos=2, val_videos=1, frames=6, num_workers=0)
    config["refresh"]["warmup_epochs"] = 1
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)  # a configuration of one's own comes before the shipped one
    assert main(["demo", "--out", "demo", "--epochs", "2"]) == 0
    said = capsys.readouterr().out
    for column in ("copy first mask", "untrained label", "trained label", "trained umec", "shipped model"):
        assert all(word in said for word in column.split()), column
    with Image.open("demo/result.png") as sheet:
        # Six frames of 320 x 192 in four rows: the truth and three networks.
        assert sheet.height / sheet.width == pytest.approx(4 / 6 * 192 / 320, rel=0.03)
    assert len(open_source("demo/overlay.mp4")) == 6
    assert main(["report", "demo"]) == 0
    page = Path("demo/report.html").read_text()
    assert all(part in page for part in ("Scores by sequence", "Pseudo masks", "J&amp;F over time", "vos-umec fit"))
    scores = json.loads(Path("demo/scores/trained_umec.json").read_text())
    assert f'data-v="{scores["J&F"]!r}"' in page
    assert list(Path("demo/quickstart/version_0/pseudo_masks/pictures").glob("*.png"))
