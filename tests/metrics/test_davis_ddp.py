"""The score of two processes is that of one: repeats dropped, idle processes and uneven states allowed."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from vos_umec.metrics.davis import DavisScore

# Sequence numbers of each process; a distributed sampler repeats some, and a small set leaves one idle.
SHARDS = {"repeats": [[0, 1], [1, 2, 3]], "idle": [[], [0, 1]], "nobody": [[], []], "same": [[0, 1], [0, 1]]}


def add(metric: DavisScore, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 3, (2, 6, 4, 5), generator=generator)
    prediction, target = blocks.repeat_interleave(6, 2).repeat_interleave(6, 3)
    metric.update(prediction, target, sequence="犬" * seed + str(seed))


def results(metric: DavisScore) -> dict:
    return {"compute": {name: value.item() for name, value in metric.compute().items()}, "rows": metric.rows()}


def work(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = {}
    for name, shards in SHARDS.items():
        metric = DavisScore()
        for seed in shards[rank]:
            add(metric, seed)
        found[name] = results(metric)
        found[f"{name}, again"] = results(metric)
        add(metric, 7 + rank)  # its own rows only must be left after a sync
        found[f"{name}, more"] = results(metric)
        with metric.sync_context():
            found[f"{name}, in a sync"] = {"rows": metric.rows()}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(240)  # two processes import torch, on a machine that may be busy
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_processes_score_like_one(run_processes, tmp_path):
    run_processes(work, (str(tmp_path),), 2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for name, shards in SHARDS.items():
        alone = DavisScore()
        for seed in sorted({seed for shard in shards for seed in shard}):
            add(alone, seed)
        expected = results(alone)
        for found in (first, second):
            # repr: NaN of the empty case equals itself
            assert repr(found[name]) == repr(expected)
            assert repr(found[f"{name}, again"]) == repr(expected)
        add(alone, 7)
        add(alone, 8)
        expected = results(alone)
        for found in (first, second):
            assert found[f"{name}, more"] == expected
            assert found[f"{name}, in a sync"]["rows"] == expected["rows"]
