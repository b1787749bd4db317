"""Errors of Lightning, torch and loggers about a user's settings or machine, as one line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from vos_umec.data.crashes import crashed_at
from vos_umec.errors import ConfigError, VosUmecError, first_sentence

_E = TypeVar("_E", bound=BaseException)
log = logging.getLogger(__name__)

LIGHTNING = ("pytorch_lightning", "lightning_fabric", "lightning_utilities")
# Without "Bus error", which tells that shared memory is used up.
_CRASHES = ("Segmentation fault", "Aborted", "Floating point exception", "Illegal instruction")
_PACKAGES = (*LIGHTNING, "jsonargparse", "torch.optim", "wandb")
"""What they raise themselves concerns settings that they were given. Other errors may come from a fault of ours."""


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn errors of other packages that concern settings or the machine into errors of one line.

    The whole traceback goes to the log at its level of debugging.

    Raises:
        ConfigError: A setting or an installed package does not fit, by another package's check.
        VosUmecError: Memory is used up, or a worker process is gone.
    """
    try:
        yield
    except (VosUmecError, OSError):
        raise
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        log.debug("the whole error", exc_info=True)
        raise message from error


def _message(error: Exception) -> VosUmecError | None:
    """What to tell the user; None for an error that is not about settings or the machine."""
    own = find_cause(error, VosUmecError)
    if own is not None:
        return own
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    text = " ".join(str(root).split())
    if isinstance(error, torch.OutOfMemoryError):
        return VosUmecError(
            f"the device's memory is used up ({first_sentence(error)}): give a smaller --data.batch_size, "
            "--data.crop or --data.clip_length"
        )
    if worker := _lost_worker(error):
        return worker
    if isinstance(error, MisconfigurationException | ImportError) or raised_in(error).startswith(_PACKAGES):
        return ConfigError(text or type(error).__name__)
    return None


def _lost_worker(error: BaseException) -> VosUmecError | None:
    """What to say of a loader worker that is gone; None if that is not what happened."""
    messages = []
    cause: BaseException | None = error
    while cause is not None:
        messages += [" ".join(str(cause).split())] if str(cause).startswith("DataLoader worker") else []
        cause = cause.__cause__ or cause.__context__
    if not messages:
        return None
    message = max(messages, key=lambda text: "signal" in text)  # one of them may say how it ended
    video = next((video for text in messages if (video := crashed_at(text)) is not None), None)
    reading = "" if video is None else f" while it read {video}"
    what = f"a process that reads clips is gone{reading} ({first_sentence(RuntimeError(message)).rstrip('. ')})"
    if not any(f"signal: {name}" in message for name in _CRASHES):
        return VosUmecError(
            f"{what}, most often because memory is used up: give a smaller --data.num_workers or --data.batch_size"
        )
    return VosUmecError(
        f"{what}: its decoder most likely crashed. Remove {'that video' if video else 'the video'}, or train on a "
        "copy: `vos-umec prepare` decodes each video in a process of its own, and leaves out those that crash"
    )


def find_cause(error: BaseException, kind: type[_E]) -> _E | None:
    """The error of a kind that led to another error, or is it: jsonargparse wraps those of constructors."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__cause__ or cause.__context__
    return cause


def raised_in(error: BaseException) -> str:
    """Name of the module that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
