"""`vos-umec fit | validate | test | predict`: LightningCLI over UMECModule and any data module."""

import copy
import logging
import pickle
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from jsonargparse import Namespace, set_parsing_settings
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from vos_umec.cli.commands import TRAINER_COMMANDS
from vos_umec.cli.configs import find_config
from vos_umec.device import multiplies_bf16
from vos_umec.errors import CheckpointError, ConfigError, VosUmecError, first_sentence
from vos_umec.models.model_file import KEY
from vos_umec.training.callbacks.data_wait import DataWait
from vos_umec.training.callbacks.pseudo_mask_refresh import PseudoMaskRefresh
from vos_umec.training.callbacks.time_budget import TimeBudget
from vos_umec.training.module import UMECModule

log = logging.getLogger(__name__)


class _Parser(LightningArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = _useful_line(str(message))
        if "arguments are required" in line:
            line += "; a configuration has them: --config configs/folder.yaml, or another of configs/"
        raise ConfigError(line) from ex


class _SaveConfig(SaveConfigCallback):
    """Also hands the whole configuration to every logger (W&B would otherwise know the hyperparameters only)."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """In the working folder, where runs without a folder of their own write, config.yaml may be the user's."""
        if Path(trainer.log_dir or ".").resolve() == Path.cwd():
            self.config_filename = "vos_umec_config.yaml"
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for logger in trainer.loggers:
            logger.log_hyperparams({"config": self.parser.dump(self.config, skip_none=False)})


class UMECCLI(LightningCLI):
    """The four commands; `model` and `data` are named by class_path, `refresh` configures the clustering."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Make the refresh and the budget part of every run."""
        parser.add_lightning_class_args(PseudoMaskRefresh, "refresh")
        parser.add_lightning_class_args(TimeBudget, "budget")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and remember what was asked before a checkpoint's hyperparameters replace it."""
        self.config = parser.parse_args(
            cast(list[str], args)
        )  # super() would warn that sys.argv has arguments as well
        self._asked = copy.deepcopy(self.config)

    def _parse_ckpt_path(self) -> None:
        """As Lightning's, which takes the settings of the model from the checkpoint; in one line what it is not."""
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path in (None, "last", "hpc"):
            return
        if not Path(path).is_file():
            raise ConfigError(f"no checkpoint at {path}; give a .ckpt file that training wrote")
        try:
            checkpoint = torch.load(path, weights_only=True, map_location="cpu")
            model = {"class_path": checkpoint[KEY]["module_class"], "init_args": checkpoint["hyper_parameters"]}
        except (pickle.UnpicklingError, EOFError, KeyError, RuntimeError, OSError) as error:
            raise CheckpointError(
                f"{path} is not a checkpoint that training wrote ({first_sentence(error)}); a model file of "
                "`vos-umec export` goes to --model.init_from"
            ) from error
        self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)

    def before_instantiate_classes(self) -> None:
        """Keep the evaluation that was asked for; report which other settings the checkpoint's replace."""
        asked, now = (vars(config[self.subcommand].model.init_args) for config in (self._asked, self.config))
        if self._get(self.config, "ckpt_path") is not None:
            now["init_from"] = None  # the checkpoint holds all weights
        if self.subcommand == "fit":
            replaced = [name for name in asked if name in now and asked[name] not in (None, now[name])]
            if replaced:
                log.warning("the checkpoint's own settings replace those given for: %s", ", ".join(replaced))
            return
        if asked.get("evaluation") is not None:  # how a checkpoint is scored is the command's choice
            given = {name: value for name, value in vars(asked["evaluation"]).items() if value is not None}
            now["evaluation"] = Namespace({**vars(now["evaluation"] or Namespace()), **given})
        if self._get(self.config, "ckpt_path") is None and now.get("init_from") is None:
            log.warning("no --ckpt_path and no --model.init_from: the network is as it was drawn, untrained")

    def instantiate_classes(self) -> None:
        """Build everything; an error of ours comes through as it is."""
        try:
            super().instantiate_classes()
        except (MisconfigurationException, ModuleNotFoundError) as error:
            raise ConfigError(" ".join(str(error).split())) from error
        except ValueError as error:
            raise _own_error(error) or error from error
        if self.subcommand == "fit" and not hasattr(self.datamodule, "gap"):
            name = type(self.datamodule).__name__
            log.warning("%s is no ClipDataModule: its videos are not clustered, masks are its own affair", name)
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
            callbacks[:] = [each for each in callbacks if not isinstance(each, PseudoMaskRefresh)]

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, in bf16 where the hardware computes in it and no precision is asked for."""
        if self._get(self.config_init, "trainer").get("precision") is None:
            kwargs["precision"] = best_precision(self._get(self.config_init, "trainer").get("accelerator"))
            log.info("precision: %s", kwargs["precision"])
        return super().instantiate_trainer(**kwargs)


def best_precision(accelerator: str = "auto") -> str:
    """The Trainer precision that suits this machine.

    Args:
        accelerator: The Trainer's accelerator.

    Returns:
        "bf16-mixed" where CUDA or the CPU multiplies in bf16 in hardware, else "32-true".

    Example:
        >>> best_precision("mps")
        '32-true'
    """
    device = accelerator
    if accelerator in ("auto", "gpu"):
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    fast = device in ("cuda", "cpu") and multiplies_bf16(device)
    return "bf16-mixed" if fast else "32-true"


def run(arguments: Sequence[str]) -> int:
    """Run one of the Trainer's commands.

    Args:
        arguments: The subcommand and its arguments.

    Returns:
        0, the exit status.

    Raises:
        ConfigError: If an argument or a key of a YAML file is unknown or does not fit.
    """
    _tell_where(run_cli(arguments))
    return 0


def run_cli(arguments: Sequence[str]) -> UMECCLI:
    """The same, giving back the command line with its trainer, model and data module.

    Args:
        arguments: The subcommand and its arguments.

    Raises:
        ConfigError: If an argument or a key of a YAML file is unknown or does not fit.
    """
    set_parsing_settings(instantiate_subclass_spec_in_any=False)  # a class_path in `network`: the module builds it
    return UMECCLI(
        UMECModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=_SaveConfig,
        save_config_kwargs={"overwrite": True},  # W&B runs share one log_dir
        seed_everything_default=0,
        trainer_defaults={"callbacks": DataWait()},  # besides those of the configuration
        parser_class=_Parser,
        parser_kwargs={
            name: {"description": f"{text[0].upper()}{text[1:]}"} for name, text in TRAINER_COMMANDS.items()
        },
        args=_with_files(arguments),
    )


def _tell_where(cli: UMECCLI) -> None:
    """Say where the run left what the next command takes: its number is nobody's to guess.

    Nothing is asked of other ranks here: they may be gone.
    """
    if not cli.trainer.is_global_zero:
        return
    last = getattr(cli.trainer.checkpoint_callback, "last_model_path", "")
    if cli.subcommand == "fit" and last:
        print(f"checkpoint in {last}")
    if cli.model.written is not None:
        print(f"{'picture' if cli.subcommand == 'test' else 'masks'} in {cli.model.written}")


def _with_files(arguments: Sequence[str]) -> list[str]:
    """The arguments with configurations found."""
    found: list[str] = []
    for word in arguments:
        flag, equals, value = word.partition("=")
        found += [flag, value] if equals and flag == "--config" else [word]
    for i, (flag, value) in enumerate(pairwise(found), start=1):
        if flag in ("--config", "-c"):
            found[i] = str(find_config(value))
    return found


def _useful_line(message: str) -> str:
    """The part of jsonargparse's message that names what is wrong."""
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    if "Errors:" in lines:  # of a union of types: the first is of the type that was meant
        return lines[lines.index("Errors:") + 1]
    for i, line in enumerate(lines):
        if "not accepted" in line or "Key" in line or "does not" in line or "Problem with" in line:
            return " ".join(lines[i : i + 2]) if line.endswith(":") else line
    return " ".join(lines[:2])


def _own_error(error: BaseException | None) -> VosUmecError | None:
    """The error of ours behind one that jsonargparse raised while building an object."""
    while error is not None and not isinstance(error, VosUmecError):
        error = error.__cause__ or error.__context__
    return error
