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
