"""Several processes: the same pseudo masks and J&F as one, and jobs that end when a rank dies.

Run alone: python benchmarks/soak_processes.py [SEED [MINUTES]]
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from soak_row import Row

from vos_umec.clustering.segments import SpaceTimeClusterer
from vos_umec.clustering.videos import cluster_videos
from vos_umec.data.index import scan
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.metrics.davis import DavisScore
from vos_umec.models.encoder import ResNetEncoder

VIDEOS, FRAMES = 5, 8
WORLDS = (2, 4)
"""Numbers of processes whose results are compared with those of one."""
END = 60.0
"""Seconds within which a job has to end after one of its ranks has died."""


def run(seed: int, minutes: float, folder: Path) -> list[Row]:
    """Soak for so many minutes at most, if the machine is not much slower than two cores.

    Args:
        seed: Seed of the videos and of what is killed when.
        minutes: Time for all parts; as many ranks are killed as it allows, one at least.
        folder: Where videos and results are written.
    """
    begun, rng = time.monotonic(), random.Random(seed)
    videos = _write_videos(folder / "videos", seed)
    scan(videos)
    rows = [_same_results(videos, folder / f"{world}", world) for world in WORLDS]
    rows.append(_poisoned(folder, seed))
    rows.append(_killed(videos, folder, rng, begun + 60 * minutes))
    return rows


def _write_videos(root: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(VIDEOS):
        (root / f"{number}").mkdir(parents=True)
        ramp = rng.integers(0, 120, 3)
        for t in range(FRAMES):
            frame = np.linspace(0, ramp, 56).astype(np.uint8)[None].repeat(40, axis=0)
            frame[8:28, 2 * t : 2 * t + 20] = 250 - ramp
            Image.fromarray(frame).save(root / f"{number}" / f"{t:05d}.png")
    return root


# --- the same results --------------------------------------------------------------------------------------------


def _worker() -> None:
    """One process of `_same_results`: its shard of the pseudo masks and of the scores."""
    videos, folder, rank, world, rendezvous = Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:7]
    rank, world = int(rank), int(world)
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=world)
    torch.manual_seed(0)
    encoder = ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=8)
    entries = scan(videos).entries
    store = PseudoMaskStore(folder / "store")
    if rank == 0:
        store.begin(1)
    if world > 1:
        dist.barrier()
    cpu = torch.device("cpu")
    cluster_videos(entries[rank::world], store, 1, SpaceTimeClusterer(3), encoder, cpu, 6, 1, 40)
    if world > 1:
        dist.barrier()
    score = DavisScore()
    for number in range(rank, VIDEOS, world):
        drawn = torch.Generator().manual_seed(number)
        blocks = torch.randint(0, 3, (2, 6, 4, 5), generator=drawn).repeat_interleave(6, 2).repeat_interleave(6, 3)
        score.update(*blocks, sequence=str(number))
    figures = {name: value.item() for name, value in score.compute().items()}
    if rank == 0:
        store.commit(1, {})
        (folder / "figures.json").write_text(json.dumps(figures))
    if world > 1:
        dist.destroy_process_group()


def _results(videos: Path, folder: Path, world: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    folder.mkdir(parents=True)
    words = [sys.executable, __file__, "worker", str(videos), str(folder)]
    ranks = [
        subprocess.Popen([*words, str(rank), str(world), str(folder / "rendezvous")], env=_environment())
        for rank in range(world)
    ]
    for rank in ranks:
        if rank.wait(timeout=400):
            raise RuntimeError(f"a process ended with status {rank.returncode}")
    store = PseudoMaskStore(folder / "store")
    masks = {entry.id: store.read(entry.id, store.frame_indices(entry.id)) for entry in scan(videos).entries}
    return masks, json.loads((folder / "figures.json").read_text())


def _same_results(videos: Path, folder: Path, world: int) -> Row:
    one, figures = _results(videos, folder / "one", 1)
    several, others = _results(videos, folder / "several", world)
    lost = sum(not np.array_equal(one[name], several[name]) for name in one)
    lost += sum(not np.isclose(figures[name], others[name], rtol=1e-6, equal_nan=True) for name in figures)
    checked = len(one) + len(figures)
    part = f"pseudo masks and J&F of {world} processes"
    return Row(
        part, checked, checked - lost, lost, f"{len(one)} videos, {len(figures)} figures equal one process's"
    )


# --- trainings ---------------------------------------------------------------------------------------------------


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _fit(videos: Path, folder: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "vos_umec.cli.main", "fit", "--config=configs/two_cores.yaml",
        f"--data.root={videos}", "--data.clip_length=3", "--data.gap=1",
        "--data.short_side=40", "--data.crop=32", "--data.batch_size=2",
        "--data.num_workers=0", "--model.network=tiny", "--model.segmentation.queries=2",
        "--model.evaluation.segmenter={}", "--trainer.accelerator=cpu", f"--trainer.logger.save_dir={folder}",
        "--trainer.enable_progress_bar=false", "--refresh.pictures=0", "--refresh.frames_per_video=4",
        "--refresh.short_side=40", *more,
    ]  # fmt: skip


def _poisoned(folder: Path, seed: int) -> Row:
    """A video that was spoilt after it was indexed: the rank whose it is leaves it out, and both train on."""
    videos, place = _write_videos(folder / "poisoned", seed), folder / "poisoned_run"
    scan(videos)
    for path in (videos / "1").iterdir():  # of rank 1
        stamp = path.stat()
        path.write_bytes(path.read_bytes()[: stamp.st_size // 3])
    more = "--trainer.devices=2", "--trainer.strategy=ddp", "--budget.minutes=0.1", "--refresh.at=[0.0,0.5]"
    words = _fit(videos, place, *more, "--budget.restarts=[]")
    done = subprocess.run(words, env=_environment(), capture_output=True, text=True, timeout=500)
    left_out = re.search("gets no pseudo masks|drawing another video|cannot be used", done.stderr)
    lost = int(done.returncode != 0 or not left_out)
    why = "the video is left out, both ranks train on" if not lost else done.stderr[-300:]
    return Row("a poisoned file on one rank", 1, 1 - lost, lost, why)


def _killed(videos: Path, folder: Path, rng: random.Random, deadline: float) -> Row:
    """Kill one of two ranks, each as on a node of its own, at a random moment of its training."""
    injected, lost, longest = 0, 0, 0.0
    why = ""
    while injected == 0 or (time.monotonic() + 2 * END < deadline and injected < 4):
        injected += 1
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        place = folder / f"killed_{injected}"
        place.mkdir()
        words = _fit(videos, place, "--trainer.num_nodes=2", "--trainer.strategy=ddp", "--budget.minutes=60")
        ranks, outputs = [], []
        for rank in range(2):
            node = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": str(rank), "LOCAL_RANK": "0"}
            outputs.append(place / f"output_{rank}.txt")
            with outputs[-1].open("w") as file:
                ranks.append(subprocess.Popen(words, env=_environment() | node, stdout=file, stderr=file))
        try:
            started = time.monotonic()
            while "training: step" not in outputs[0].read_text() and time.monotonic() - started < 300:
                time.sleep(0.5)
            time.sleep(rng.uniform(0, 3))
            dies = rng.randrange(2)
            ranks[dies].send_signal(signal.SIGKILL)
            start = time.monotonic()
            try:
                status = ranks[1 - dies].wait(timeout=END)
            except subprocess.TimeoutExpired:
                status = 0
            longest = max(longest, time.monotonic() - start)
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
        said = outputs[1 - dies].read_text()
        if status == 0 or not re.search(r"rank \d (of \d )?(failed|died|is gone)", said):
            lost += 1
            why = "; " + said[-200:]
    figures = f"the other ends within {longest:.0f} s{why}"
    return Row("ranks that are killed", injected, injected - lost, lost, figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        _worker()
    else:
        words = sys.argv[1:]
        with tempfile.TemporaryDirectory() as temporary:
            minutes = float(words[1]) if words[1:] else 5.0
            for row in run(int(words[0]) if words else 0, minutes, Path(temporary)):
                print(" | ".join(map(str, row)), flush=True)
