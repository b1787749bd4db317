"""Which runs a set has, what identifies each, and the configuration that it is trained with. Imports no torch."""

import copy
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from vos_umec.errors import ConfigError

Config = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What all runs of a set have in common.

    Attributes:
        base: The configuration that every cell changes.
        davis: Root of the DAVIS folder that the runs are scored on.
        split: Its list of sequences.
        extra: Further arguments of `vos-umec fit`.
        out: Folder of the set.
        base_name: Name of the base's file, or names of its files.
    """

    base: Config
    davis: str
    split: str
    extra: tuple[str, ...]
    out: Path
    base_name: str

    @cached_property
    def fingerprint(self) -> str:
        """Figures stand in one table only where this is the same. Places and names do not count."""
        return fingerprint([self.base, self.davis, self.split, self.extra])


@dataclass(frozen=True)
class Run:
    """One cell of a table with one seed.

    Two runs that differ only in how they segment (`model.init_args.evaluation.segmenter`) share one training.
    Its folder is named by what went into it.

    Attributes:
        setting: What it has in common with the others.
        cell: Name of the cell.
        seed: Seed of the weights, the clips and all other random draws of training.
        config: The base with the changes of the cell.
    """

    setting: Setting
    cell: str
    seed: int
    config: Config

    @property
    def folder(self) -> Path:
        """Folder of its result."""
        return self.setting.out / self.cell / f"seed_{self.seed}"

    @cached_property
    def trained_with(self) -> str:
        """Fingerprint of its training."""
        config = copy.deepcopy(self.config)
        arguments = config["model"].get("init_args", {})
        evaluation = arguments.pop("evaluation", None) or {}
        if evaluation.keys() - {"segmenter"}:
            arguments["evaluation"] = {name: evaluation[name] for name in evaluation if name != "segmenter"}
        return fingerprint([config, self.setting.extra, self.seed])

    @property
    def training(self) -> Path:
        """Folder of its training."""
        return self.setting.out / "trainings" / self.trained_with

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint of its training."""
        return self.training / "checkpoints" / "last.ckpt"

    @property
    def segmenter(self) -> Config:
        """Arguments of `VideoSegmenter` in its score."""
        return (self.config["model"].get("init_args", {}).get("evaluation") or {}).get("segmenter") or {}

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of everything that its result depends on."""
        return fingerprint([self.trained_with, self.segmenter, self.setting.davis, self.setting.split])

    def fit_config(self) -> Config:
        """The configuration of its training, which can be resumed after any epoch."""
        config = copy.deepcopy(self.config)
        # Validation segments as the base does, so that all cells of one training have the same configuration.
        evaluation = self.setting.base["model"].get("init_args", {}).get("evaluation")
        config["model"].setdefault("init_args", {})["evaluation"] = copy.deepcopy(evaluation)
        config["seed_everything"] = self.seed
        place = {"seed": self.seed, "store": str(self.training / "pseudo_masks")}
        config["data"].setdefault("init_args", {}).update(place)
        trainer = config.setdefault("trainer", {})
        trainer["enable_progress_bar"] = False  # the output goes to a file
        callbacks = trainer.get("callbacks") or []
        callbacks = [callbacks] if isinstance(callbacks, dict) else callbacks
        checkpoint = {
            "dirpath": str(self.checkpoint.parent),
            "filename": self.checkpoint.stem,
            "enable_version_counter": False,  # one file, replaced in one step at the end of each epoch
            "save_on_train_epoch_end": True,
        }
        trainer["callbacks"] = [
            {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": checkpoint},
            {"class_path": "worker.RepeatableEpochs", "init_args": {"seed": self.seed}},
            *(each for each in callbacks if "ModelCheckpoint" not in each["class_path"]),
        ]
        if isinstance(trainer.get("logger"), dict):
            trainer["logger"].setdefault("init_args", {})["save_dir"] = str(self.training)
        return config

    def fit_command(self) -> list[str]:
        """The command that starts its training, or resumes it from the last checkpoint."""
        worker, config = Path(__file__).with_name("worker.py"), self.training / "config.yaml"
        resume = ["--ckpt_path", str(self.checkpoint)] if self.checkpoint.is_file() else []
        return [sys.executable, str(worker), "fit", "--config", str(config), *self.setting.extra, *resume]


def plan_setting(bases: Sequence[Path], davis: str | None, extra: Sequence[str], out: Path) -> Setting:
    """Make the setting of a set.

    Args:
        bases: The configuration that the cells change, then files with changes for all cells.
        davis: DAVIS root to score on; None for the base's own `data.init_args.val_root`.
        extra: Further arguments of `vos-umec fit`.
        out: Folder of the set.

    Raises:
        ConfigError: A file cannot be read, the base has no model or data, or there is nothing to score on.
    """
    config: Config = {}
    for path in bases:
        config = overlay(config, read_config(path))
    names = " + ".join(path.name for path in bases)
    for part in ("model", "data"):
        if not isinstance(config.get(part), dict):
            raise ConfigError(f"{names} has no {part} with a class_path; give a whole configuration as the base")
    data = config["data"].get("init_args", {})
    root = davis or data.get("val_root")
    if root is None:
        raise ConfigError(f"nothing to score on: {names} has no data.init_args.val_root; give --davis DAVIS")
    if any(each.startswith("--model.evaluation") for each in extra):
        raise ConfigError("--model.evaluation cannot stand after --; put it into a cell, or into a file of --base")
    return Setting(config, str(root), data.get("val_split", "val"), tuple(extra), out, names)


def plan_runs(setting: Setting, cells: Sequence[Path], seeds: Sequence[int]) -> list[Run]:
    """Make all runs, seed by seed, so that a whole table is there as soon as possible.

    Args:
        setting: The setting.
        cells: Files with the changes of the cells, each named as its cell.
        seeds: Seeds of each cell.

    Raises:
        ConfigError: A file cannot be read, or two have one name.
    """
    names = [path.stem for path in cells]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"two files for one cell: {', '.join(sorted(twice))}; a file's name is its cell's")
    configs = {path.stem: overlay(setting.base, read_config(path)) for path in cells}
    return [Run(setting, name, seed, config) for seed in dict.fromkeys(seeds) for name, config in configs.items()]


def overlay(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """A new configuration with changes: mappings are merged at any depth, all else is replaced.

    A change may name one setting of `segmenter`, while a second `--config` of `vos-umec fit` replaces `segmenter`
    as a whole. Where `class_path` changes, the arguments of the former class are dropped.

    Example:
        >>> overlay({"a": {"b": 1, "c": 2}, "d": [1, 2]}, {"a": {"c": 3}, "d": [4]})
        {'a': {'b': 1, 'c': 3}, 'd': [4]}
        >>> base = {"class_path": "A", "init_args": {"x": 1}}
        >>> overlay(base, {"class_path": "A", "init_args": {"y": 2}})
        {'class_path': 'A', 'init_args': {'x': 1, 'y': 2}}
        >>> overlay(base, {"class_path": "B", "init_args": {"y": 2}})
        {'class_path': 'B', 'init_args': {'y': 2}}
    """
    if "class_path" in changes and changes["class_path"] != base.get("class_path"):
        return copy.deepcopy(dict(changes))
    merged = copy.deepcopy(dict(base))
    for name, value in changes.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = overlay(before, value)
        else:
            merged[name] = copy.deepcopy(value)
    return merged


def read_config(path: Path) -> Config:
    """Read a YAML file that holds a mapping; an empty file changes nothing.

    Raises:
        ConfigError: It is missing, is no YAML or holds something else.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if config is not None and not isinstance(config, dict):
        raise ConfigError(f"{path} holds a {type(config).__name__}; expected the keys of a configuration")
    return config or {}


def fingerprint(value: Any) -> str:
    """Twelve letters for plain values; the order of keys does not count.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1})
        True
    """
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
