"""Every YAML in experiments/cells changes the shipped bases in a way that can be built."""

import inspect
from fnmatch import fnmatch
from itertools import combinations
from pathlib import Path

import pytest
import torch
import yaml

from plan import plan_runs, plan_setting
from summary import PUBLISHED
from vos_umec import PseudoMaskRefresh, UMECModule, VideoSegmenter
from vos_umec.cli.trainer import UMECCLI, run_cli
from vos_umec.inference.protocols import PROTOCOLS, change_settings
from vos_umec.models.decoder import Decoder
from vos_umec.models.encoder import ResNetEncoder
from vos_umec.models.factory import PRESETS, build_network, import_class
from vos_umec.models.mask_encoder import MaskEncoder
from vos_umec.objectives.base import EncodedClip
from vos_umec.objectives.segmentation import SegmentationObjective
from vos_umec.training.callbacks.time_budget import TimeBudget

ROOT = Path(__file__).parents[2]
CELLS = sorted((ROOT / "experiments" / "cells").glob("*.yaml"))
QUICK = ROOT / "experiments" / "quick_readout.yaml"
BASES = {
    "folder": ["folder.yaml"],
    "two_cores": ["two_cores.yaml"],
    "quick": ["two_cores.yaml", QUICK],
    "few minutes": ["two_cores.yaml", QUICK.with_name("few_minutes.yaml")],
    "paper": ["ytvos_resnet18.yaml"],
}

# What each cell may change on the paper's base. Settings that a cell names for other bases are the paper's already.
SEGMENTER = "model.evaluation.segmenter."
OBJECTIVES, ROUNDS, WARMUP = "model.objectives", f"{SEGMENTER}rounds", "refresh.warmup_epochs"
ALONE = {ROUNDS, WARMUP}  # without L_seg
STRIDE_4 = {"model.network.encoder.pool", "model.network.encoder.color", "model.network.mask_encoder.pool"}
RUNS = {"data.run_length"}  # frames equally far apart, or pairs of successive ones
CRW_CLIPS = {"data.crop_scale", "data.crop_each_frame"} | RUNS
NAMED = {
    "4a_short": {OBJECTIVES} | RUNS | ALONE,
    "4a_short_seg": {OBJECTIVES} | RUNS,
    "4a_long": {OBJECTIVES} | RUNS | ALONE,
    "4a_long_seg": {OBJECTIVES} | RUNS,
    "4a_both": {OBJECTIVES} | RUNS | ALONE,
    "4a_seg": {OBJECTIVES, WARMUP, "model.mask_phase_rate"} | RUNS,
    "4a_all": {OBJECTIVES} | RUNS,
    "4b_*": {f"{SEGMENTER}references"},
    "4c_*": {"refresh.clusters"},
    "4d_*": {"refresh.every_n_epochs"},
    "4e_*": {ROUNDS},
    "4f_colorization": {OBJECTIVES, "model.network.encoder.color"} | RUNS | ALONE,
    "4f_colorization_seg": {OBJECTIVES, "model.network.encoder.color"} | RUNS,
    "4f_crw": {OBJECTIVES} | CRW_CLIPS | ALONE,
    "4f_crw_seg": {OBJECTIVES} | CRW_CLIPS,
    "4f_dense": {OBJECTIVES} | ALONE,
    "4f_dense_seg": {OBJECTIVES},
    "4f_frame_similarity": {OBJECTIVES, "data.crop_each_frame"} | ALONE,
    "4f_frame_similarity_seg": {OBJECTIVES, "data.crop_each_frame"},
    "4f_mast": {OBJECTIVES} | STRIDE_4 | RUNS | ALONE,
    "4f_mast_seg": {OBJECTIVES} | STRIDE_4 | RUNS,
    "4f_ours": {OBJECTIVES} | RUNS | ALONE,
    "4f_ours_seg": {OBJECTIVES} | RUNS,
    "beside_*": {OBJECTIVES} | RUNS | ALONE,
    "budget_*": {"refresh.at"},
    "memory_*": {f"{SEGMENTER}memory_masks", f"{SEGMENTER}weigh_memory"},
    "parted_no_batch_norm": {"model.network.mask_encoder.batch_norm"},
    "parted_*": set(),  # they bring a small base back to the paper
    "position_*": {"refresh.position_weight"},
    "side_*": {SEGMENTER + each for each in ("short_side", "readout.radius", "readout.permanent_radius")},
    "untrained": {"trainer.max_steps", "model.learning_rate"} | ALONE,
    "without_seg": ALONE,
}


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
        VideoSegmenter.from_protocol(modules[run.trained_with].network, **run.segmenter)
        PseudoMaskRefresh(**config["refresh"])


def test_every_cell_of_the_papers_tables_is_there():
    assert set(PUBLISHED["cells"]) <= {path.stem for path in CELLS}


def test_the_cells_of_inference_share_a_training_and_no_two_cells_are_the_same_by_mistake(runs):
    assert len({run.training for cell, run in runs.items() if cell.startswith(("4b", "4e"))}) == 1
    twins = {(a, b) for a, b in combinations(runs, 2) if runs[a].fingerprint == runs[b].fingerprint}
    # The paper's tables give two names to each of these systems.
    for a, b in twins - {("4a_all", "4f_ours_seg"), ("4a_both", "4f_ours")}:
        assert a[:2] != b[:2], f"{a} and {b} are one run"


def arguments_of(cls, given):
    """The arguments of a class, those of its bases too, with the defaults of those that are not given."""
    known = {}
    for each in reversed(cls.__mro__):
        if "__init__" in vars(each):
            known |= inspect.signature(each.__init__).parameters
    defaults = {name: each.default for name, each in known.items() if each.default is not inspect.Parameter.empty}
    return {**defaults, **given}


def resolved(config):
    """All settings of a configuration by their full names, with the defaults of what it does not name."""
    model = arguments_of(UMECModule, config["model"]["init_args"])
    changes = dict(model["evaluation"]["segmenter"])
    protocol = PROTOCOLS.get(changes.pop("protocol", None), {})
    segmenter = change_settings(arguments_of(VideoSegmenter, protocol), changes)
    preset = PRESETS[model["network"]["preset"]]
    parts = {"encoder": ResNetEncoder, "mask_encoder": MaskEncoder, "decoder": Decoder}
    network = {
        part: arguments_of(cls, {**preset[part], **model["network"].get(part, {})}) for part, cls in parts.items()
    }
    objectives = [
        (each["class_path"], arguments_of(import_class(each["class_path"], object), each.get("init_args", {})))
        for each in model["objectives"]
    ]
    data = config["data"]
    model |= {"network": network, "evaluation": {"segmenter": segmenter}, "objectives": objectives}
    model["segmentation"] = arguments_of(SegmentationObjective, model["segmentation"] or {})
    whole = {
        "model": model,
        "data": arguments_of(import_class(data["class_path"], object), data["init_args"]),
        "refresh": arguments_of(PseudoMaskRefresh, config["refresh"]),
        "budget": arguments_of(TimeBudget, config.get("budget", {})),
        "trainer": config["trainer"],
    }
    return dict(leaves(whole))


def leaves(config, path=""):
    """Values by their full names; a list and a tuple of the same values are the same."""
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", list(value) if isinstance(value, tuple) else value


def test_on_the_papers_base_a_cell_changes_what_it_names_and_nothing_else(tmp_path):
    setting = plan_setting([ROOT / "configs" / "ytvos_resnet18.yaml"], "davis", (), tmp_path)
    base = resolved(setting.base)
    for run in plan_runs(setting, CELLS, [0]):
        cell = resolved(run.config)
        changed = {name for name in base.keys() | cell.keys() if base.get(name) != cell.get(name)}
        named = next(keys for pattern, keys in NAMED.items() if fnmatch(run.cell, pattern))
        assert changed <= named, run.cell


def test_the_equivariance_of_all_cells_has_the_same_weights(runs):
    """A term that stands alone has weight 1, since nothing has to be weighed against it."""
    found = {}
    for cell, run in runs.items():
        for each in run.config["model"]["init_args"]["objectives"]:
            if each["class_path"] == "vos_umec.EquivarianceObjective":
                found[cell] = (each["init_args"]["w_short"], each["init_args"]["w_long"])
    alone = {"4a_short": (1.0, 0.0), "4a_long": (0.0, 1.0)}
    alone |= {f"{cell}_seg": weights for cell, weights in alone.items()} | {"4a_seg": (0.0, 0.0)}
    assert found == {cell: alone.get(cell, (0.1, 1.0)) for cell in found}


@pytest.mark.parametrize("base", ["ytvos_resnet18.yaml", "two_cores.yaml"])
def test_photometric_reconstruction_is_at_the_stride_of_its_source(base, tmp_path):
    setting = plan_setting([ROOT / "configs" / base], "davis", (), tmp_path)
    for run in plan_runs(setting, [path for path in CELLS if path.stem.startswith("4f_mast")], [0]):
        network = build_network(run.config["model"]["init_args"]["network"])
        assert (network.encoder.stride, network.mask_encoder.stride, network.encoder.color) == (4, 4, "lab")
        with torch.inference_mode():
            assert network.encoder.eval()(torch.rand(1, 3, 32, 48)).key.shape[-2:] == (8, 12)


def test_random_weights_stay_while_the_batch_norms_see_clips(runs):
    arguments = runs["untrained"].fit_config()["model"]["init_args"]
    module = UMECModule(**{**arguments, "network": "tiny"})
    before = {name: value.clone() for name, value in module.network.encoder.state_dict().items()}
    configured = module.configure_optimizers()["optimizer"]
    clip = EncodedClip(module.network.encoder, torch.rand(2, 3, 3, 64, 64), torch.arange(3).expand(2, 3))
    module.objectives[0](clip)["loss"].backward()
    configured.step()
    for name, value in module.network.encoder.state_dict().items():
        moves = "running" in name or "num_batches" in name
        assert torch.equal(value, before[name]) != moves, name


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
