"""DDP for tests: processes that start within a moment."""

from pytorch_lightning.strategies import DDPStrategy


class QuickDDP(DDPStrategy):
    """Processes of a server that has the libraries loaded, see tests/conftest.py."""

    def __init__(self) -> None:
        super().__init__(start_method="forkserver")

    def model_to_device(self) -> None:
        for x in (*self.model.parameters(), *self.model.buffers()):
            x.data = x.data.clone()  # they came in memory that all processes share
        super().model_to_device()
