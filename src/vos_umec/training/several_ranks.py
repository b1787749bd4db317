"""Training on several ranks: what their strategy needs, and how all of them end when one fails."""

import logging
import os
import time
from itertools import count
from threading import Event, Thread
from typing import Any, Self

import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
)

from vos_umec.errors import ConfigError, VosUmecError, first_sentence
from vos_umec.training.checkpoint_files import write_atomically

log = logging.getLogger(__name__)

POLL = 2.0
"""Seconds between two looks for a failure."""
SILENCE = 30.0
"""Seconds without a sign of life after which a rank is dead."""
GRACE = 5.0
"""Seconds in which the failed rank can report its error before the others end."""
_LOST = "rank 0 is gone, and with it the store of the process group"


def prepare_strategy(strategy: Strategy, stage: str) -> None:
    """Fit a Trainer's strategy to this package's training, before it wraps the module.

    Checkpoints appear whole or not at all. DDP is made to accept unused parameters: V and D before the first pseudo
    masks, a frozen E after. On CPUs, for which torch has no synchronised batch norms, each process keeps its own.

    Args:
        strategy: The strategy.
        stage: The stage of `LightningModule.setup`.

    Raises:
        ConfigError: It shards the network.
    """
    if isinstance(strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy):
        raise ConfigError(
            f"{type(strategy).__name__} shards the network, which clustering and inference need whole on every "
            "device; give strategy ddp"
        )
    write_atomically(strategy)
    if not isinstance(strategy, DDPStrategy):
        return
    strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
    on_cpu, wanted = strategy.root_device.type == "cpu", strategy._layer_sync is not None
    if on_cpu:
        strategy._layer_sync = None
    if stage == "fit" and strategy.world_size > 1 and strategy.is_global_zero and (on_cpu or not wanted):
        log.warning(
            "batch norms are not synchronised: each process normalises by the statistics of its own clips; %s",
            "torch synchronises them on GPUs alone" if on_cpu else "give the Trainer sync_batchnorm=True",
        )


class FailTogether(Callback):
    """Ends all ranks within a quarter of a minute after one of them raised an error.

    The others would wait for it in their next collective operation: with NCCL until the process group's timeout,
    half an hour by default. So the failed rank leaves a message in the store of the process group. A thread of each
    rank looks there every two seconds, and ends its process with status 1. It does the same when the store is gone
    with rank 0, which holds it. The first process of each node logs which rank failed with which error.

    A killed rank leaves no message, so each rank counts in the store while it lives, and watches the count of the
    next rank. Where that stands still for half a minute, it leaves the message of the dead.

    `UMECModule` brings the callback along where there are several ranks.
    """

    _runs = count()

    def __init__(self) -> None:
        self._key = f"vos_umec/failed/{next(self._runs)}"  # the store outlives a run
        self._stop, self._ending = Event(), False
        self._beats, self._heard = 0, 0.0  # the count of the next rank, and when it last rose

    @classmethod
    def started(cls, trainer: Trainer) -> Self:
        """A new one, whose thread looks for failures from now on; so before the data are set up."""
        callback = cls()
        Thread(target=callback._watch, args=[trainer.local_rank], name="fail-together", daemon=True).start()
        return callback

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the message; where another rank failed first, raise its error instead of this consequence of it.

        Raises:
            VosUmecError: Another rank failed first, with another error.
        """
        self._stop.set()
        if not isinstance(exception, Exception) or not dist.is_initialized():  # an interrupt reaches all ranks
            return
        error = f"{type(exception).__name__}: {first_sentence(exception)}"
        own = f"rank {trainer.global_rank} of {trainer.world_size} failed with {error}"
        try:
            first = _store().compare_set(self._key, "", own).decode()
        except RuntimeError:
            first = _LOST
        if not first.endswith(error):
            raise VosUmecError(first)
        if first == own:
            log.error("%s; the other ranks end as well", own)
            if trainer.is_global_zero:
                time.sleep(2 * POLL)  # until the others have read it: the store ends with this process

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop looking, once all ranks have come to their end."""
        self._ending = True
        trainer.strategy.barrier("the ends of all ranks")
        self._stop.set()

    def _watch(self, local_rank: int) -> None:
        while not self._stop.wait(POLL):
            message = self._message() if dist.is_initialized() else None
            if message is None:
                continue
            if local_rank == 0:
                log.error("%s; this rank ends as well", message)
            if not self._stop.wait(GRACE):
                logging.shutdown()
                os._exit(1)  # the main thread may wait in a collective operation, which no exception ends

    def _message(self) -> str | None:
        """What a failed rank has left; None without one."""
        try:
            store = _store()
            return store.get(self._key).decode() if store.check([self._key]) else self._dead(store)
        except RuntimeError:
            return None if self._ending else _LOST

    def _dead(self, store: Any) -> str | None:
        """Count, and look at the next rank's count; what to say of a dead one, first of all ranks."""
        rank, world, now = dist.get_rank(), dist.get_world_size(), time.monotonic()
        following = (rank + 1) % world
        store.add(f"{self._key}/alive/{rank}", 1)
        beats = store.add(f"{self._key}/alive/{following}", 0)
        if beats != self._beats or not self._heard:
            self._beats, self._heard = beats, now
        if now - self._heard < SILENCE:
            return None
        dead = f"rank {following} of {world} died: no sign of life for {SILENCE:g} seconds"
        return store.compare_set(self._key, "", dead).decode()  # type: ignore[no-any-return]


def _store() -> Any:
    """The store of the process group, which one process holds and all of them read and write."""
    return dist.distributed_c10d._get_default_store()
