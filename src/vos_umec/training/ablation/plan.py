"""Which runs a set of ablations is made of, and what identifies each. Imports no torch."""

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

_CHECKPOINT = "pytorch_lightning.callbacks.ModelCheckpoint"
_REPEATABLE = "vos_umec.training.ablation.repeatable.RepeatableEpochs"


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
        """Of all but places and names: figures stand in one table only where it is the same."""
        return fingerprint([self.base, self.davis, self.split, self.extra])


@dataclass(frozen=True)
class Run:
    """One cell of a table with one seed.

    Two runs whose configurations differ in nothing but the read-out (`model.init_args.segmenter`) share one
    training, in a folder named by what went into it; each scores its checkpoint in its own way.

    Attributes:
        setting: What it has in common with the others.
        cell: Name of the cell.
        seed: Seed of the weights, of the clips and of all that is drawn in training.
        config: The base with the cell's changes.
    """

    setting: Setting
    cell: str
    seed: int
    config: Config

    @property
    def folder(self) -> Path:
        """Where its result is."""
        return self.setting.out / self.cell / f"seed_{self.seed}"

    @cached_property
    def trained_with(self) -> str:
        """Fingerprint of its training."""
        config = copy.deepcopy(self.config)
        config["model"].get("init_args", {}).pop("segmenter", None)
        return fingerprint([config, self.setting.extra, self.seed])

    @property
    def training(self) -> Path:
        """Where its checkpoint is."""
        return self.setting.out / "trainings" / self.trained_with

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint of its training."""
        return self.training / "checkpoints" / "last.ckpt"

    @property
    def segmenter(self) -> Config:
        """How it reads out."""
        return self.config["model"].get("init_args", {}).get("segmenter") or {}

    @cached_property
    def fingerprint(self) -> str:
        """Of all that its result depends on."""
        return fingerprint([self.trained_with, self.segmenter, self.setting.davis, self.setting.split])

    def fit_config(self) -> Config:
        """The configuration of its training: seeded, in its own folder, to be resumed after any epoch."""
        config = copy.deepcopy(self.config)
        # The read-out of validation is the base's, so that cells which share the training give one configuration.
        base = self.setting.base["model"].get("init_args", {})
        config["model"].setdefault("init_args", {})["segmenter"] = copy.deepcopy(base.get("segmenter"))
        config["seed_everything"] = self.seed
        place = {"seed": self.seed, "store": str(self.training / "pseudo_masks")}
        config["data"].setdefault("init_args", {}).update(place)
        trainer = config.setdefault("trainer", {})
        trainer["enable_progress_bar"] = False  # the output goes to a file
        trainer["callbacks"] = [
            {
                "class_path": _CHECKPOINT,
                "init_args": {
                    "dirpath": str(self.checkpoint.parent),
                    "filename": self.checkpoint.stem,
                    "enable_version_counter": False,  # one file, replaced in one step at the end of each epoch
                    "save_on_train_epoch_end": True,
                },
            },
            {"class_path": _REPEATABLE, "init_args": {"seed": self.seed}},
            *(each for each in _listed(trainer.get("callbacks")) if "ModelCheckpoint" not in each["class_path"]),
        ]
        if isinstance(trainer.get("logger"), dict):
            trainer["logger"].setdefault("init_args", {})["save_dir"] = str(self.training)
        return config

    def fit_command(self) -> list[str]:
        """The command that trains, or goes on training from the last checkpoint."""
        command = [sys.executable, "-m", "vos_umec.cli.main", "fit", "--config", str(self.training / "config.yaml")]
        resume = ["--ckpt_path", str(self.checkpoint)] if self.checkpoint.is_file() else []
        return [*command, *self.setting.extra, *resume]


def plan_setting(bases: Sequence[Path], davis: str | None, extra: Sequence[str], out: Path) -> Setting:
    """What the runs of a set have in common.

    Args:
        bases: File of the configuration that the cells change, and files of changes that are made for all of them.
        davis: DAVIS root to score on; None for the base's own `data.init_args.val_root`.
        extra: Further arguments of `vos-umec fit`.
        out: Folder of the set.

    Raises:
        ConfigError: If a file cannot be read, the base has no model or data, or there is nothing to score on.
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
    if any(each.startswith("--model.segmenter") for each in extra):
        raise ConfigError("the read-out is a cell's own: put model.init_args.segmenter into the base, not after --")
    return Setting(config, str(root), data.get("val_split", "val"), tuple(extra), out, names)


def plan_runs(setting: Setting, cells: Sequence[Path], seeds: Sequence[int]) -> list[Run]:
    """All runs, in the order in which they give a whole table soonest: cells within seeds.

    Args:
        setting: What they have in common.
        cells: Files of the cells' changes; a file's name is the cell's.
        seeds: Seeds of each cell.

    Raises:
        ConfigError: If a file cannot be read, or two have one name.
    """
    names = [path.stem for path in cells]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"two files for one cell: {', '.join(sorted(twice))}; a file's name is its cell's")
    configs = {path.stem: overlay(setting.base, read_config(path)) for path in cells}
    return [Run(setting, name, seed, config) for seed in dict.fromkeys(seeds) for name, config in configs.items()]


def overlay(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """A configuration with changes: mappings are merged at any depth, all else is replaced.

    Unlike two `--config` of the Trainer's commands, which replace `segmenter` as a whole, a change may name one of
    its settings. The arguments of a class do not outlive it: where `class_path` changes, all is replaced.

    Args:
        base: A configuration.
        changes: What is different.

    Returns:
        A new configuration; neither argument is changed.

    Example:
        >>> overlay({"a": {"b": 1, "c": 2}, "d": [1, 2]}, {"a": {"c": 3}, "d": [4]})
        {'a': {'b': 1, 'c': 3}, 'd': [4]}
        >>> overlay({"class_path": "A", "init_args": {"x": 1}}, {"class_path": "B"})
        {'class_path': 'B'}
    """
    if "class_path" in changes and changes["class_path"] != base.get("class_path"):
        return copy.deepcopy(dict(changes))
    merged = copy.deepcopy(dict(base))
    for name, value in changes.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[name] = overlay(below, value)
        else:
            merged[name] = copy.deepcopy(value)
    return merged


def read_config(path: Path) -> Config:
    """A YAML file that holds a mapping; an empty one changes nothing.

    Raises:
        ConfigError: If it is missing, is no YAML or holds something else.
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


def _listed(value: Any) -> list[Config]:
    """Callbacks of a configuration, of which one may stand alone."""
    return [value] if isinstance(value, dict) else list(value or [])
