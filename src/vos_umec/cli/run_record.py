"""RunRecord: run.json in the folder of a run says what was run, with which versions, on what, and for how long."""

import json
import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from vos_umec.io.atomic import atomic_path
from vos_umec.io.container import available_cores
from vos_umec.report.run_files import RECORD
from vos_umec.viz.by_product import ByProduct


class RunRecord(Callback):
    """Writes run.json when a run begins, and again with its seconds when it ends, also by an error.

    Args:
        command: The words of the command.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._begun = 0.0
        self._record: dict[str, Any] = {}
        self._path: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write what is known at the beginning."""
        folder = trainer.log_dir  # on every rank, because the first one sends it
        self._path = Path(folder) / RECORD if folder and trainer.loggers and trainer.is_global_zero else None
        self._begun = monotonic()
        self._record = {
            "command": self._command,
            "started": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
            "versions": {
                "Python": platform.python_version(),
                **{name: version(name) for name in ("vos-umec", "torch", "pytorch-lightning")},
            },
            "hardware": _hardware(trainer),
        }
        self._write()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Add the seconds."""
        self._end("ended")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Add the seconds, and that the run failed."""
        self._end(f"stopped by {type(exception).__name__}")

    def _end(self, outcome: str) -> None:
        if "seconds" not in self._record:
            self._record |= {"seconds": round(monotonic() - self._begun, 1), "outcome": outcome}
            self._write()

    def _write(self) -> None:
        if self._path is not None:
            with ByProduct(self._path), atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps(self._record, indent=2) + "\n", encoding="utf-8")


def _hardware(trainer: Trainer) -> dict[str, str]:
    device = trainer.strategy.root_device
    found = {"processor": f"{_processor()}, {available_cores()} cores", "device": device.type}
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
    if trainer.world_size > 1:
        found["processes"] = str(trainer.world_size)
    return found | {"precision": str(trainer.precision)}


def _processor() -> str:
    """Name of the CPU, which Linux alone has in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
