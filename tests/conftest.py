import logging
import multiprocessing
import os
import time
from pathlib import Path

# Before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as vos_umec does
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores already

import pytest
import torch
import torch.multiprocessing as mp

# Processes that are started by "forkserver" find these loaded, where "spawn" would load them in each.
multiprocessing.set_forkserver_preload(["vos_umec.cli.trainer", "vos_umec.training.module"])

collect_ignore_glob = ["*/conftest.py"]  # they hold no doctests, and two of one name cannot both be imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests come first: a long one at the end would leave the other test processes with nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Every test starts from one seed, and without the log level that a command before it has set."""
    torch.manual_seed(0)
    logging.getLogger("vos_umec").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real videos and masks; tests that need it are skipped where it is absent."""
    root = os.environ.get("VOS_UMEC_DATA", "")
    if not Path(root).is_dir() or not root:
        pytest.skip("VOS_UMEC_DATA does not name a folder of real data")
    return Path(root)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of the tiny network, untrained; one for all tests of a session (of a worker under xdist)."""
    from pytorch_lightning import Trainer

    from vos_umec import UMECModule

    torch.manual_seed(0)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(UMECModule(network="tiny"))
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.ckpt"
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def run_processes():
    """Run `work(rank, *arguments)` in several processes, and end them all when one fails or they hang."""

    def run(work, arguments, number):
        context = mp.start_processes(work, arguments, number, join=False, start_method="forkserver")
        try:
            deadline = time.monotonic() + 200
            while not context.join(timeout=5):  # returns when any process ends, true when all have
                assert time.monotonic() < deadline, "the processes hang"
        finally:
            for process in context.processes:
                process.kill()

    return run
