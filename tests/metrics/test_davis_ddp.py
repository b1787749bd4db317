"""The score of two or four processes is that of one: repeats dropped, idle processes and uneven states allowed."""

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
    for world in (2, 4):
        if rank < world:
            score(rank, world, folder)


def score(rank: int, world: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/rendezvous_{world}", rank=rank, world_size=world)
    found = {}
    for name, shards in SHARDS.items():
        metric = DavisScore()
        for seed in [*shards, [], []][rank]:  # of four processes two have nothing
            add(metric, seed)
        found[name] = results(metric)
        found[f"{name}, again"] = results(metric)
        add(metric, 7 + rank % 2)  # its own rows only must be left after a sync
        found[f"{name}, more"] = results(metric)
        with metric.sync_context():
            found[f"{name}, in a sync"] = {"rows": metric.rows()}
    Path(folder, f"{world}_{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(240)  # two processes import torch, on a machine that may be busy
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_and_four_processes_score_like_one(run_processes, tmp_path):
    run_processes(work, (str(tmp_path),), 4)
    every = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    assert len(every) == 2 + 4
    for name, shards in SHARDS.items():
        alone = DavisScore()
        for seed in sorted({seed for shard in shards for seed in shard}):
            add(alone, seed)
        expected = results(alone)
        for found in every:
            # repr: NaN of the empty case equals itself
            assert repr(found[name]) == repr(expected)
            assert repr(found[f"{name}, again"]) == repr(expected)
        add(alone, 7)
        add(alone, 8)
        expected = results(alone)
        for found in every:
            assert found[f"{name}, more"] == expected
            assert found[f"{name}, in a sync"]["rows"] == expected["rows"]
