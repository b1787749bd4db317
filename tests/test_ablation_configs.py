"""Every YAML in configs/ablations changes the shipped bases in a way that can be built."""

from itertools import combinations
from pathlib import Path

import pytest
import torch
import yaml

from vos_umec import PseudoMaskRefresh, UMECModule, VideoSegmenter
from vos_umec.cli.trainer import UMECCLI, run_cli
from vos_umec.objectives.base import EncodedClip
from vos_umec.training.ablation.plan import plan_runs, plan_setting
from vos_umec.training.ablation.published import PUBLISHED

CONFIGS = Path(__file__).parents[1] / "configs"
CELLS = sorted((CONFIGS / "ablations").glob("*.yaml"))
BASES = ["folder.yaml", "two_cores.yaml"]


@pytest.fixture(scope="module", params=BASES)
def runs(request, tmp_path_factory):
    setting = plan_setting([CONFIGS / request.param], "davis", (), tmp_path_factory.mktemp("out"))
    return {run.cell: run for run in plan_runs(setting, CELLS, [0])}


@pytest.mark.parametrize("cell", [path.stem for path in CELLS])
def test_a_cell_builds(cell, runs):
    config = runs[cell].fit_config()
    module = UMECModule(**{**config["model"]["init_args"], "network": "tiny"})
    VideoSegmenter(module.network, **runs[cell].segmenter)
    PseudoMaskRefresh(**config["refresh"])
    assert len(module.objectives) == (2 if cell.startswith("beside") else 1)
    clip = EncodedClip(module.network.encoder, torch.rand(2, 3, 3, 64, 64), torch.arange(3).expand(2, 3))
    for objective in module.objectives:
        assert objective(clip)["loss"].isfinite(), f"{cell} does not learn on the keys of this base"


def test_every_cell_of_the_papers_tables_is_there():
    assert set(PUBLISHED) <= {path.stem for path in CELLS}


def test_readouts_share_a_training_and_no_two_cells_are_the_same_by_mistake(runs):
    readouts = {run.training for cell, run in runs.items() if cell.startswith(("4b", "4e"))}
    assert len(readouts) == 1
    twins = {(a, b) for a, b in combinations(runs, 2) if runs[a].fingerprint == runs[b].fingerprint}
    # Names that the paper's tables give to one and the same system.
    for a, b in twins - {("4a_all", "4f_ours_seg"), ("4a_both", "4f_ours")}:
        assert a[:2] != b[:2], f"{a} and {b} are one run"


@pytest.mark.parametrize("base", BASES)
def test_the_trainers_commands_take_what_ablate_writes(base, tmp_path, monkeypatch):
    monkeypatch.setattr(UMECCLI, "_run_subcommand", lambda self, subcommand: None)
    setting = plan_setting([CONFIGS / base], "davis", (), tmp_path)
    (run,) = plan_runs(setting, [CONFIGS / "ablations" / "4f_mast_seg.yaml"], [3])
    run.training.mkdir(parents=True)
    (run.training / "config.yaml").write_text(yaml.safe_dump(run.fit_config()))
    cli = run_cli(run.fit_command()[3:])
    names = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert names.count("ModelCheckpoint") == 1
    assert "RepeatableEpochs" in names
    assert [type(each).__name__ for each in cli.model.objectives] == ["PhotometricObjective"]
    assert cli.datamodule.hparams["seed"] == 3
