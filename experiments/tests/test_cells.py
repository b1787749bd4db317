"""Every YAML in experiments/cells changes the shipped bases in a way that can be built."""

from itertools import combinations
from pathlib import Path

import pytest
import torch
import yaml

from plan import plan_runs, plan_setting
from summary import PUBLISHED
from vos_umec import PseudoMaskRefresh, UMECModule, VideoSegmenter
from vos_umec.cli.trainer import UMECCLI, run_cli
from vos_umec.objectives.base import EncodedClip

ROOT = Path(__file__).parents[2]
CELLS = sorted((ROOT / "experiments" / "cells").glob("*.yaml"))
QUICK = ROOT / "experiments" / "quick_readout.yaml"
BASES = {"folder": ["folder.yaml"], "two_cores": ["two_cores.yaml"], "quick": ["two_cores.yaml", QUICK]}


@pytest.fixture(scope="module", params=BASES.values(), ids=BASES)
def runs(request, tmp_path_factory):
    bases = [ROOT / "configs" / name for name in request.param]
    setting = plan_setting(bases, "davis", (), tmp_path_factory.mktemp("out"))
    return {run.cell: run for run in plan_runs(setting, CELLS, [0])}


def test_every_cell_builds_and_has_a_finite_loss(runs):
    torch.manual_seed(0)
    frames, indices = torch.rand(2, 3, 3, 64, 64), torch.arange(3).expand(2, 3)
    modules: dict[str, UMECModule] = {}  # of each training
    for cell, run in runs.items():
        config = run.fit_config()
        if run.trained_with not in modules:
            module = UMECModule(**{**config["model"]["init_args"], "network": "tiny"})
            assert len(module.objectives) == (2 if cell.startswith("beside") else 1)
            clip = EncodedClip(module.network.encoder, frames, indices)
            for objective in module.objectives:
                assert objective(clip)["loss"].isfinite(), cell
            modules[run.trained_with] = module
        VideoSegmenter(modules[run.trained_with].network, **run.segmenter)
        PseudoMaskRefresh(**config["refresh"])


def test_every_cell_of_the_papers_tables_is_there():
    assert set(PUBLISHED["cells"]) <= {path.stem for path in CELLS}


def test_the_cells_of_inference_share_a_training_and_no_two_cells_are_the_same_by_mistake(runs):
    assert len({run.training for cell, run in runs.items() if cell.startswith(("4b", "4e"))}) == 1
    twins = {(a, b) for a, b in combinations(runs, 2) if runs[a].fingerprint == runs[b].fingerprint}
    # The paper's tables give two names to each of these systems.
    for a, b in twins - {("4a_all", "4f_ours_seg"), ("4a_both", "4f_ours")}:
        assert a[:2] != b[:2], f"{a} and {b} are one run"


@pytest.mark.parametrize("base", ["folder.yaml", "two_cores.yaml"])
def test_fit_takes_the_configuration_that_ablate_writes(base, tmp_path, monkeypatch):
    monkeypatch.setattr(UMECCLI, "_run_subcommand", lambda self, subcommand: None)
    setting = plan_setting([ROOT / "configs" / base], "davis", (), tmp_path)
    (run,) = plan_runs(setting, [ROOT / "experiments" / "cells" / "4f_mast_seg.yaml"], [3])
    run.training.mkdir(parents=True)
    (run.training / "config.yaml").write_text(yaml.safe_dump(run.fit_config()))
    cli = run_cli(run.fit_command()[2:])
    names = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert names.count("ModelCheckpoint") == 1
    assert "RepeatableEpochs" in names
    assert [type(each).__name__ for each in cli.model.objectives] == ["PhotometricObjective"]
    assert cli.datamodule.hparams["seed"] == 3
