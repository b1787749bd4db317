"""`vos-umec fit | validate | test | predict`: LightningCLI over a UMECModule and any data module."""

import copy
import logging
import re
import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, cast

from jsonargparse import set_parsing_settings
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from vos_umec.cli.noise import hide_wandb_notices
from vos_umec.cli.others_errors import LIGHTNING, in_one_line, raised_in
from vos_umec.cli.parsing import Parser, find_config, require_yaml
from vos_umec.cli.run_record import RunRecord
from vos_umec.device import multiplies_bf16, pick_device
from vos_umec.errors import ConfigError, first_sentence
from vos_umec.models.description import KEY
from vos_umec.training.callbacks.data_wait import DataWait
from vos_umec.training.callbacks.progress_lines import ProgressLines
from vos_umec.training.callbacks.pseudo_mask_refresh import PseudoMaskRefresh
from vos_umec.training.callbacks.time_budget import TimeBudget
from vos_umec.training.checkpoint_files import newest_checkpoint, read_checkpoint
from vos_umec.training.module import UMECModule

log = logging.getLogger(__name__)

_EXAMPLES = {
    "fit": "Train a network: vos-umec fit --config configs/folder.yaml --data.root VIDEOS",
    "validate": "Score a checkpoint on the validation sequences: "
    "vos-umec validate --config configs/davis17.yaml --data.root DAVIS --ckpt_path CKPT",
    "test": "Score a checkpoint and two baselines: "
    "vos-umec test --config configs/davis17.yaml --data.root DAVIS --ckpt_path CKPT",
    "predict": "Write the masks of a whole data set: "
    "vos-umec predict --config configs/ytvos_predict.yaml --data.root YTVOS --ckpt_path CKPT",
}

_PACKAGES = {
    "TensorBoardLogger": "tensorboard",
    "MLFlowLogger": "mlflow",
    "CometLogger": "comet_ml",
    "NeptuneLogger": "neptune",
}
"""What loggers need; W&B is among the package's own dependencies."""


class UMECCLI(LightningCLI):
    """The four commands: `model` and `data` are named by class_path, `refresh` and `budget` are in each run."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the refresh of the pseudo masks and the budget of time."""
        parser.add_lightning_class_args(PseudoMaskRefresh, "refresh")
        parser.add_lightning_class_args(TimeBudget, "budget")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """As super(), but Lightning's table of a test is printed on demand: the module prints one of its own."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "test":
            parser.set_defaults({"verbose": False})
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and keep what was given, which a checkpoint's hyperparameters replace later."""
        # super() would warn that sys.argv holds arguments as well
        self.config = parser.parse_args(cast(list[str], args))
        self._given = copy.deepcopy(self.config)
        self._keep_csv()

    def _keep_csv(self) -> None:
        """Put a CSVLogger before other loggers: its folder is the run's, and `vos-umec report` reads its file.

        A logger whose package is not installed is left out.
        """
        trainer = self.config[self.config.subcommand].trainer
        given = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
        others = [each for each in given if hasattr(each, "class_path")]
        if trainer.logger is False or [each.class_path.rsplit(".", 1)[-1] for each in others] == ["CSVLogger"]:
            return
        has_csv = any(each.class_path.endswith("CSVLogger") for each in others)
        loggers = [] if has_csv else [{"class_path": "CSVLogger", "init_args": run_place(trainer)}]
        for each in others:
            package = _PACKAGES.get(each.class_path.rsplit(".", 1)[-1])
            if package is None or find_spec(package):
                loggers.append(each.as_dict())
            else:
                log.warning("%s is not installed: the figures go to metrics.csv in the run's folder alone", package)
        self.config = self.parser.parse_object(
            {self.config.subcommand: {"trainer": {"logger": loggers}}}, self.config
        )

    def _parse_ckpt_path(self) -> None:
        """Take the model's class and arguments from the checkpoint, as super() does; say if it is none."""
        config = self.config[self.config.subcommand]
        path = config.get("ckpt_path")
        if path == "last":
            path = config.ckpt_path = str(last_checkpoint(config.trainer))
            log.info("--ckpt_path last is %s", path)
        if path in (None, "hpc"):
            return
        if not Path(path).is_file():
            raise ConfigError(f"no checkpoint at {path}; give a .ckpt file that training wrote")
        checkpoint = read_checkpoint(path)
        model = {"class_path": checkpoint[KEY]["module_class"], "init_args": checkpoint["hyper_parameters"]}
        self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)

    def before_instantiate_classes(self) -> None:
        """Hold the arguments of the model that were given against the checkpoint's."""
        given, used = (vars(config[self.subcommand].model.init_args) for config in (self._given, self.config))
        if self._get(self.config, "ckpt_path") not in (None, "hpc"):  # which may find no checkpoint
            used["init_from"] = None  # the checkpoint holds all weights
        if self.subcommand == "fit":
            replaced = [name for name in given if name in used and given[name] not in (None, used[name])]
            if replaced:
                log.warning("the checkpoint's own values replace those given for: %s", ", ".join(replaced))
            return
        if given.get("evaluation") is not None:  # how a checkpoint is scored is the command's choice
            own, chosen = (dict(each["evaluation"] or {}) for each in (used, given))
            used["evaluation"] = own | {name: value for name, value in chosen.items() if value is not None}
        if self._get(self.config, "ckpt_path") is None and used.get("init_from") is None:
            log.warning("no --ckpt_path and no --model.init_from: the network has random weights, untrained")

    def instantiate_classes(self) -> None:
        """Build everything; refresh no pseudo masks of data that has none."""
        super().instantiate_classes()
        if self.subcommand == "fit" and not hasattr(self.datamodule, "gap"):
            name = type(self.datamodule).__name__
            log.warning("%s is no ClipDataModule: no pseudo masks are made of its videos", name)
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
            callbacks[:] = [each for each in callbacks if not isinstance(each, PseudoMaskRefresh)]

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, in bf16 where the hardware multiplies in it and no precision is given."""
        given = self._get(self.config_init, "trainer")
        if given.get("precision") is None:
            kwargs["precision"] = best_precision(given.get("accelerator"))
            log.info("precision: %s", kwargs["precision"])
        try:
            trainer: Trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ImportError, ValueError, TypeError, RuntimeError) as error:
            names = ("accelerator", "devices", "num_nodes", "strategy", "precision")
            chosen = [f"{name} {given[name]}" for name in names if given.get(name) not in (None, "auto", 1)]
            if not chosen or not raised_in(error).startswith(LIGHTNING):
                raise
            raise ConfigError(
                f"the Trainer cannot be built with {', '.join(chosen)}: {first_sentence(error)}; leave them out to "
                f"take the best that this machine has ({pick_device().type})"
            ) from error
        for logger in trainer.loggers:
            hide_wandb_notices(logger)
        return trainer


class _Parser(Parser, LightningArgumentParser):
    """LightningCLI's parser, with errors of one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if "arguments are required" in message:
            message += "; a configuration has them: --config configs/folder.yaml, or another of configs/"
        if unknown := re.search(r"Option '(\w+)' is not accepted", message):
            owners = {"refresh": PseudoMaskRefresh, "budget": TimeBudget}
            others = [
                f"--{name}.{unknown[1]}"
                for name, owner in owners.items()
                if unknown[1] in signature(owner).parameters
            ]
            message += f"; there is {others[0]}" if others else ""
        super().error(message, ex)


class _SaveConfig(SaveConfigCallback):
    """Saves the configuration of a run, and hands it to every logger: W&B would know the hyperparameters only."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if Path(trainer.log_dir or ".").resolve() == Path.cwd():  # where config.yaml may be the user's
            self.config_filename = "vos_umec_config.yaml"
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for logger in trainer.loggers:
            logger.log_hyperparams({"config": self.parser.dump(self.config, skip_none=False)})


def best_precision(accelerator: str = "auto") -> str:
    """The precision of a Trainer: "bf16-mixed" where CUDA or the CPU multiplies in bf16.

    Elsewhere "16-mixed" on CUDA, whose GPUs all multiply in fp16 (V100, T4), and "32-true" on other devices.
    """
    device = pick_device().type if accelerator in ("auto", "gpu") else accelerator
    if device in ("cuda", "cpu") and multiplies_bf16(device):
        return "bf16-mixed"
    return "16-mixed" if device == "cuda" else "32-true"


def run(arguments: Sequence[str]) -> None:
    """Run one of the Trainer's commands, and print where it left what the next command takes."""
    cli = run_cli(arguments)
    folder = cli.trainer.log_dir  # on every rank: the first one sends it to the others
    if not cli.trainer.is_global_zero:  # other ranks may be gone already
        return
    if cli.subcommand == "fit":
        _print_checkpoints(cli.trainer)
    if cli.model.written is not None:
        print(f"{'picture' if cli.subcommand == 'test' else 'masks'} in {cli.model.written}")
    for logger in cli.trainer.loggers:
        if isinstance(logger, WandbLogger):
            run, offline = logger.experiment, shlex.quote(str(Path(logger.experiment.dir).parent))
            print(f"W&B run: {f'wandb sync {offline}' if run.offline else run.url}")
    if cli.subcommand != "predict" and cli.trainer.loggers:
        print(f"one page of it all: vos-umec report {shlex.quote(str(folder))}")


def _print_checkpoints(trainer: Trainer) -> None:
    """Say where the last checkpoint is, and the best by each figure that a ModelCheckpoint monitors."""
    if last := getattr(trainer.checkpoint_callback, "last_model_path", ""):
        print(f"checkpoint in {last}")
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_score is not None:
            print(f"best by {callback.monitor}, {callback.best_model_score:.4g}: {callback.best_model_path}")


def run_cli(arguments: Sequence[str]) -> UMECCLI:
    """Run one of the Trainer's commands, and return its `trainer`, `model` and `datamodule`.

    Raises:
        ConfigError: An argument or a key of a YAML file is unknown or does not fit.
    """
    set_parsing_settings(instantiate_subclass_spec_in_any=False)  # an encoder by class_path: its module builds it
    with in_one_line():
        return UMECCLI(
            UMECModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"overwrite": True},  # W&B runs share one log_dir
            seed_everything_default=0,
            trainer_defaults={
                "callbacks": [
                    DataWait(),
                    ProgressLines(),
                    RunRecord(["vos-umec", *arguments]),
                ],  # besides those of the configuration
                "sync_batchnorm": True,  # where there are several GPUs
            },
            parser_class=_Parser,
            parser_kwargs={name: {"description": text} for name, text in _EXAMPLES.items()},
            args=_with_configs(arguments),
        )


def run_place(trainer: Any) -> dict[str, str]:
    """The `save_dir` and the `name` of a configuration's runs: their folder is SAVE_DIR/NAME/version_N.

    Args:
        trainer: The configuration of the Trainer.
    """
    logger = trainer.logger[0] if isinstance(trainer.logger, list) else trainer.logger
    settings = vars(logger.init_args) if hasattr(logger, "init_args") else {}
    root = settings.get("save_dir") or trainer.default_root_dir or "."
    name = settings.get("project") or settings.get("name") or "lightning_logs"  # project: of W&B
    return {"save_dir": str(root), "name": str(name)}


def last_checkpoint(trainer: Any) -> Path:
    """The checkpoint that was written last by the runs of a configuration's name.

    A run writes into the next free version of the folder that its logger names, or into `dirpath` of a
    ModelCheckpoint.

    Args:
        trainer: The configuration of the Trainer.

    Raises:
        ConfigError: There is none.
    """
    place = Path(*run_place(trainer).values())
    folders = [*place.glob("*/checkpoints"), Path(trainer.default_root_dir or ".", "checkpoints")]
    own = [callback.init_args.get("dirpath") for callback in trainer.callbacks or []]
    folders += [Path(folder) for folder in own if folder]
    found = newest_checkpoint(folders)
    if found is None:
        raise ConfigError(
            f"--ckpt_path last finds no checkpoint of an earlier run in {place}; give the path of a .ckpt "
            "file, or leave --ckpt_path out to begin anew"
        )
    return found


def _with_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments with the path of each configuration, see `find_config`."""
    words: list[str] = []
    for word in arguments:
        words += word.split("=", 1) if word.startswith("--config=") else [word]
    for i, (flag, value) in enumerate(pairwise(words), start=1):
        if flag in ("--config", "-c"):
            path = find_config(value)
            require_yaml(path)
            words[i] = str(path)
    return words
