"""Processes that fail, each of them as on a node of its own: no launcher looks after the others."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.plugins import TorchSyncBatchNorm
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy, SingleDeviceStrategy

from vos_umec import UMECModule
from vos_umec.errors import ConfigError
from vos_umec.training.several_ranks import prepare_strategy

PROGRAM = """
import os, signal, sys, time
import torch
from pytorch_lightning import LightningDataModule, Trainer
from vos_umec import UMECModule
from vos_umec.training import several_ranks

place, failing = sys.argv[1], int(sys.argv[2])
several_ranks.SILENCE = 10
rank = int(os.environ["NODE_RANK"])


def come_to(here):
    if here != place:
        return
    if rank == failing and len(sys.argv) > 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == failing:
        raise OSError("no space left. Really none.")
    time.sleep(1000)  # as a collective operation waits


class Module(UMECModule):
    def training_step(self, batch, batch_idx):
        if self.trainer.global_step == 2:
            come_to("step")
        return super().training_step(batch, batch_idx)


class Data(LightningDataModule):
    def setup(self, stage):
        come_to("setup")

    def train_dataloader(self):
        clip = {"frames": torch.rand(3, 3, 32, 32), "frame_indices": 5 * torch.arange(3)}
        return torch.utils.data.DataLoader([clip] * 16, batch_size=2)


Trainer(
    accelerator="cpu", devices=1, num_nodes=2, strategy="ddp", max_epochs=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
).fit(Module("tiny"), Data())
time.sleep(5 * rank)  # rank 1 outlives rank 0
"""


def run_two(folder: Path, *arguments: str) -> tuple[list[int], list[str], float]:
    """Status and output of two processes, and the seconds from the first one's end to the last one's."""
    (folder / "program.py").write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    outputs = [folder / f"output_{rank}.txt" for rank in range(2)]
    processes = []
    for rank, output in enumerate(outputs):
        environment = os.environ | place | {"NODE_RANK": str(rank)}
        command = [sys.executable, str(folder / "program.py"), *arguments]
        with output.open("w") as file:
            processes.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=folder))
    try:
        deadline, ends = time.monotonic() + 150, [0.0, 0.0]
        while not all(ends) and time.monotonic() < deadline:
            time.sleep(0.2)
            for rank, process in enumerate(processes):
                if process.poll() is not None:
                    ends[rank] = ends[rank] or time.monotonic()
    finally:
        for process in processes:
            process.kill()
    return [process.wait() for process in processes], [file.read_text() for file in outputs], max(ends) - min(ends)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "failing"), [("step", 0), ("setup", 1)])
def test_a_rank_that_fails_ends_the_others_within_a_minute(place, failing, tmp_path):
    statuses, outputs, apart = run_two(tmp_path, place, str(failing))
    assert statuses == [1, 1], outputs
    assert apart < 60
    for output in outputs:  # one line on each node
        assert output.count(f"rank {failing} of 2 failed with OSError: no space left; ") == 1
    assert "Traceback" not in outputs[1 - failing]


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_others_too(tmp_path):
    statuses, outputs, apart = run_two(tmp_path, "step", "1", "killed")
    assert statuses == [1, -9], outputs
    assert apart < 60
    assert outputs[0].count("rank 1 of 2 died: no sign of life for 10 seconds; this rank ends as well") == 1


@pytest.mark.slow
def test_ranks_that_do_not_fail_end_one_after_another(tmp_path):
    statuses, outputs, apart = run_two(tmp_path, "nowhere", "0")
    assert statuses == [0, 0], outputs
    assert apart > 3


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
def test_strategies_that_shard_the_network_are_refused_in_one_line(strategy):
    module = UMECModule("tiny")
    module._trainer = SimpleNamespace(strategy=strategy())
    with pytest.raises(ConfigError, match=rf"^{strategy.__name__} shards the network, .*; give strategy ddp$"):
        module.setup("fit")


def ddp(device: str, synchronised: bool) -> DDPStrategy:
    environment = LightningEnvironment()
    environment.set_world_size(2)
    strategy = DDPStrategy(parallel_devices=[torch.device(device, 0)], cluster_environment=environment)
    strategy._layer_sync = TorchSyncBatchNorm() if synchronised else None
    return strategy


def test_batch_norms_are_synchronised_where_torch_can(caplog):
    cpu, cuda = ddp("cpu", synchronised=True), ddp("cuda", synchronised=True)
    for strategy in (cuda, SingleDeviceStrategy(torch.device("cuda", 0))):
        prepare_strategy(strategy, "fit")
    assert cuda._layer_sync is not None
    assert not caplog.records
    prepare_strategy(ddp("cuda", synchronised=False), "fit")
    assert "sync_batchnorm=True" in caplog.text
    prepare_strategy(cpu, "fit")
    assert cpu._layer_sync is None
    assert "on GPUs alone" in caplog.text
