"""Which runs a set has, what they share, and how a configuration is changed."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import BASE, ROUNDS, make_runs, make_setting

from plan import Setting, overlay, plan_runs, plan_setting
from vos_umec.errors import ConfigError

values = st.integers() | st.lists(st.integers(), max_size=2)
configs = st.recursive(
    st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | values, max_size=3),
    max_leaves=6,
)


def leaves(config, path=()):
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


@given(configs, configs)
def test_an_overlay_changes_what_it_names_and_nothing_else(base, changes):
    before = copy.deepcopy((base, changes))
    merged = dict(leaves(overlay(base, changes)))
    for path, value in leaves(changes):
        # an empty mapping changes nothing of a mapping that is there
        assert value == {} or merged[path] == value
    named = [path for path, _ in leaves(changes)]
    for path, value in leaves(base):
        touched = any(path[: len(name)] == name or name[: len(path)] == path for name in named)
        assert touched or merged[path] == value
    assert overlay(overlay(base, changes), changes) == overlay(base, changes)
    assert (base, changes) == before


def test_cells_that_differ_in_inference_share_a_training_and_others_do_not(tmp_path):
    cells = {"all": {}, "rounds_0": ROUNDS, "M2": {"refresh": {"clusters": 2}}}
    runs = make_runs(make_setting(tmp_path), cells, seeds=(0, 1))
    assert [(run.cell, run.seed) for run in runs[:4]] == [("all", 0), ("rounds_0", 0), ("M2", 0), ("all", 1)]
    whole, rounds, clusters, other_seed = runs[:4]
    assert whole.training == rounds.training
    assert len({whole.training, clusters.training, other_seed.training}) == 3
    assert len({run.fingerprint for run in runs}) == 6
    assert rounds.segmenter == {"rounds": 0, "references": 20}  # the rest is the base's
    assert whole.fit_config() == rounds.fit_config()
    (longer,) = make_runs(make_setting(tmp_path, extra=("--trainer.max_epochs=9",)), {"all": {}})
    assert longer.trained_with != whole.trained_with


def test_a_training_has_its_seed_its_folder_and_one_checkpoint(tmp_path):
    own = {"class_path": "pytorch_lightning.callbacks.LearningRateMonitor"}
    base = overlay(BASE, {"trainer": {"callbacks": [*BASE["trainer"]["callbacks"], own]}})
    (run,) = make_runs(make_setting(tmp_path, base), {"all": {}}, seeds=(7,))
    config = run.fit_config()
    assert config["seed_everything"] == config["data"]["init_args"]["seed"] == 7
    assert config["data"]["init_args"]["store"] == str(run.training / "pseudo_masks")
    assert config["trainer"]["logger"]["init_args"]["save_dir"] == str(run.training)
    checkpoint, repeatable, last = config["trainer"]["callbacks"]
    assert checkpoint["init_args"]["dirpath"] == str(run.checkpoint.parent)
    assert repeatable["init_args"] == {"seed": 7}
    assert last == own  # the base's other callbacks stay


@pytest.mark.parametrize(
    ("base", "davis", "extra", "words"),
    [
        ("model: {class_path: M}", "davis", (), "no data"),
        ("model: {class_path: M}\ndata: {class_path: D}", None, (), "--davis"),
        ("- a list", "davis", (), "holds a list"),
        ("a: [", "davis", (), r"base\.yaml"),
        (
            "model: {class_path: M}\ndata: {class_path: D}",
            "davis",
            ("--model.evaluation.segmenter.rounds=0",),
            "evaluation",
        ),
    ],
)
def test_a_base_that_cannot_be_used_is_one_line(base, davis, extra, words, tmp_path):
    (tmp_path / "base.yaml").write_text(base)
    with pytest.raises(ConfigError, match=words) as raised:
        plan_setting([tmp_path / "base.yaml"], davis, extra, tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_each_file_of_a_base_changes_those_before_it(tmp_path):
    for name, text in (
        ("base", "model: {class_path: M, init_args: {a: 1, b: 1, c: 1}}\ndata: {class_path: D}"),
        ("finer", "model: {class_path: M, init_args: {b: 2, c: 2}}"),
        ("longer", "model: {class_path: M, init_args: {c: 3}}"),
    ):
        (tmp_path / f"{name}.yaml").write_text(text)
    files = [tmp_path / f"{name}.yaml" for name in ("base", "finer", "longer")]
    setting = plan_setting(files, "davis", (), tmp_path / "out")
    assert setting.base["model"]["init_args"] == {"a": 1, "b": 2, "c": 3}
    assert setting.base_name == "base.yaml + finer.yaml + longer.yaml"
    assert plan_setting(files[:1], "davis", (), tmp_path / "out").fingerprint != setting.fingerprint


def test_cells_need_files_and_names_of_their_own(tmp_path):
    setting = make_setting(tmp_path)
    with pytest.raises(ConfigError, match=r"no\.yaml"):
        plan_runs(setting, [tmp_path / "no.yaml"], [0])
    with pytest.raises(ConfigError, match="two files for one cell: all"):
        plan_runs(setting, [tmp_path / "a" / "all.yaml", tmp_path / "b" / "all.yaml"], [0])


def test_fingerprints_stay_what_they_are_in_sets_on_disk():
    """Names and places do not change them."""
    setting = Setting({"model": {}, "data": {}}, "davis", "val", ("--a=1",), Path("a"), "base.yaml")
    assert setting.fingerprint == "8027fa6b4459"
    assert replace(setting, base_name="other.yaml", out=Path("b")).fingerprint == setting.fingerprint
