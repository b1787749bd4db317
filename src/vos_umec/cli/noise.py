"""What other packages say to developers, and not to those who run a command, is not shown. Imports no torch."""

import logging
import os
import sys
import warnings
from typing import Any

_OTHERS = (
    "faiss", "google", "jsonargparse", "kornia", "lightning_fabric", "lightning_utilities", "pydantic",
    "pytorch_lightning", "tensorboard", "timm", "torch", "torchmetrics", "torchvision", "wandb",
)  # fmt: skip
_OUTDATED = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
_ADVERTISEMENTS = ("💡 Tip", "TPU available", "HPU available")
_OF_NO_USE = (
    r"The '\w+' does not have many workers",  # DataWait measures whether training waits, and says what to do
    r"Precision \S+ is not supported by the model summary",  # of a table that no decision hangs on
    r"The number of training batches .* is smaller than the logging interval",  # a folder of few videos
    r"Total length of `list` across ranks is zero",  # no sequences to validate on, as training needs none
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",  # of a test: they only save
    r"The dirpath has changed from ",  # a run has its own folder
    r"predict returned None",  # the masks are written, and nothing has to be returned
)
"""What Lightning says of ordinary runs, and nobody has to act on."""


def hide_noise() -> None:
    """Hide deprecations in other packages' own code, tips of Lightning and W&B, and what needs no action.

    The commands call it. All other warnings are shown, those of this package and of the user's modules too. With
    Python's own option -W, or PYTHONWARNINGS, all warnings are as the user chose.
    """
    if not sys.warnoptions:
        own_code = rf"({'|'.join(_OTHERS)})(\.|$)"
        for category in _OUTDATED:
            warnings.filterwarnings("ignore", category=category, module=own_code)
        for message in _OF_NO_USE:
            warnings.filterwarnings("ignore", message=message, module=own_code)
    os.environ.setdefault("WANDB_QUIET", "true")  # the command itself says where the run is
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(_is_of_use)


def hide_wandb_notices(logger: Any) -> None:
    """Hide what W&B says of Lightning's `WandbLogger`, and all that it says of a run without network.

    The command itself says where the run is. With a network W&B may have to ask who the user is.
    """
    settings = getattr(logger, "_wandb_init", {})
    if settings.get("anonymous", "") is None:  # Lightning passes it always, and W&B warns that it has no effect
        del settings["anonymous"]
    if getattr(logger, "_offline", False) or os.environ.get("WANDB_MODE") == "offline":
        os.environ.setdefault("WANDB_SILENT", "true")


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_ADVERTISEMENTS)
