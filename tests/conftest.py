import os
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the commands do; before torch is loaded

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


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
