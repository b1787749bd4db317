import multiprocessing
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from refresh_toys import FRAMES, Clips, Toy, contents, fit, make, write_videos
from several import QuickDDP

from vos_umec.clustering.video import cluster_video, frame_window, video_seed
from vos_umec.data.index import scan
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import VosUmecError


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.mark.slow
def test_two_and_four_processes_make_the_same_masks_as_one(videos, tmp_path):
    # Before the first step, so that all runs cluster with the same weights. Of four one has no video.
    for processes in (1, 2, 4):
        strategy = QuickDDP() if processes > 1 else "auto"
        folder, module = tmp_path / str(processes), Toy()
        fit(
            videos,
            folder,
            make(warmup_epochs=0, every_n_epochs=0),
            1,
            module,
            data={"batch_size": 4},
            devices=processes,
            strategy=strategy,
        )
    one, *others = (contents(tmp_path / n / "store") for n in "124")
    for each in others:
        assert len(one) == len(each) == 3
        assert all((one[name] == each[name]).all() for name in one)
    health = [PseudoMaskStore(tmp_path / n / "store").manifest["health"] for n in "124"]
    assert all(each == pytest.approx(health[0]) for each in health[1:])


class Poisoning(Callback):
    """Spoils a video after it was indexed, so that reading it fails on the rank whose it is."""

    def setup(self, trainer, pl_module, stage):
        trainer.strategy.barrier("both ranks have the index")
        if trainer.is_global_zero:
            for path in (Path(trainer.datamodule.index.root) / "b").iterdir():
                path.write_bytes(b"poison")


@pytest.mark.slow
def test_a_poisoned_video_is_skipped_by_the_rank_whose_it_is(tmp_path):
    videos = write_videos(tmp_path / "videos")
    scan(videos)
    fit(videos, tmp_path, make(warmup_epochs=0, every_n_epochs=1), epochs=2, first=[Poisoning()], clips=4,
        devices=2, strategy=QuickDDP())  # fmt: skip
    assert sorted(contents(tmp_path / "store")) == ["a", "deep/c d é"]
    assert PseudoMaskStore(tmp_path / "store").generation == 2  # both ranks came to the second refresh


class Incomplete(Clips):
    """Rank 1 finds one video less, as on a node whose copy of the data is not complete."""

    def find_videos(self):
        index = super().find_videos()
        return replace(index, entries=index.entries[: len(index) - self.trainer.global_rank])


@pytest.mark.slow
def test_ranks_that_find_different_videos_end_with_the_name_of_one(videos, tmp_path):
    data = Incomplete(str(videos), crop=32, short_side=40, batch_size=8)
    trainer = Trainer(accelerator="cpu", devices=2, strategy=QuickDDP(), logger=False, default_root_dir=tmp_path)
    with pytest.raises(Exception, match=r"rank 1 found 2 videos in .* and rank 0 3: deep/c d é is missing"):
        trainer.fit(Toy(), data)


@pytest.mark.slow
def test_all_processes_cluster_with_the_weights_of_the_checkpoint(videos, tmp_path):
    # After a step the processes' running statistics differ; the masks must not depend on who makes them.
    keep = ModelCheckpoint(dirpath=tmp_path / "ckpt", save_top_k=-1)
    fit(videos, tmp_path, make(every_n_epochs=0), epochs=2, enable_checkpointing=True,
        callbacks=[keep], devices=2, strategy=QuickDDP())  # fmt: skip
    module = Toy.load_from_checkpoint(next((tmp_path / "ckpt").glob("epoch=0*")))
    for entry in scan(videos):
        seed = video_seed(entry.id, 1)
        indices = frame_window(FRAMES, 6, 1, seed).tolist()
        encoder, clusterer = module.network.encoder, make().build_clusterer()
        result, _ = cluster_video(entry.source(), encoder, clusterer, indices, 40, seed, torch.device("cpu"))
        assert (contents(tmp_path / "store")[entry.id] == result.segments).all()


def on_two_nodes(train, *arguments):
    """Call `train(rank, *arguments)` in two processes that stand for two nodes of one rank each."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    nodes = [context.Process(target=as_node, args=(train, rank, port, *arguments)) for rank in range(2)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join(120)
        node.kill()
    assert [node.exitcode for node in nodes] == [0, 0]


def as_node(train, rank, port, *arguments):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(rank), "LOCAL_RANK": "0"}
    train(rank, *arguments)


NODES = {"devices": 1, "num_nodes": 2, "strategy": "ddp"}


def train_apart(rank, videos, folder):
    """Each node has a folder of its own; then both go on from a checkpoint that is older than the last masks."""
    keep = ModelCheckpoint(dirpath=folder / "ckpt", filename="{epoch}", save_top_k=-1)
    module = Toy()
    fit(videos, folder / str(rank), make(every_n_epochs=1), module=module, enable_checkpointing=True,
        callbacks=[keep], **NODES)  # fmt: skip
    assert module.generations() == {0: {0}, 1: {1}, 2: {2}}
    store = PseudoMaskStore(folder / str(rank) / "store")
    assert store.generation == store.manifest["generation"] == 2
    assert store.manifest["videos"] == 3
    assert not [path.name for path in store.root.iterdir() if path.name.startswith(".rank")]
    module = Toy()
    trainer = fit(videos, folder / str(rank), make(every_n_epochs=2), epochs=3, module=module,
                  ckpt_path=folder / "ckpt" / "epoch=0.ckpt", **NODES)  # fmt: skip
    assert module.generations() == {1: {1}, 2: {1}}
    assert trainer.callbacks[0]._ranks == [rank]


@pytest.mark.slow
def test_nodes_without_a_shared_disk_cluster_all_videos_each(videos, tmp_path):
    on_two_nodes(train_apart, videos, tmp_path)
    masks = [contents(tmp_path / node / "store") for node in ("0", "1")]
    assert len(masks[0]) == len(masks[1]) == 3
    assert all((masks[0][name] == masks[1][name]).all() for name in masks[0])


class Fails:
    """A clusterer that fails on one rank; on the other it takes a second for each video."""

    def __call__(self, keys, output_size, seed):
        if os.environ["NODE_RANK"] == "1":
            raise MemoryError("no memory left")
        time.sleep(1)
        return make().build_clusterer()(keys, output_size, seed)


def train_with_failure(rank, videos, folder):
    refresh = make(warmup_epochs=0)
    refresh._clusterer = Fails()
    start = time.monotonic()
    expected = (MemoryError, VosUmecError)[rank == 0]
    with pytest.raises(expected, match=r"rank 1 failed to cluster|another process has failed|no memory"):
        fit(videos, folder, refresh, clips=20, **NODES)
    assert time.monotonic() - start < 60
    assert not list((folder / "store").glob("*.tmp"))


@pytest.mark.slow
def test_a_failure_of_one_rank_ends_the_refresh_of_all(videos, tmp_path):
    on_two_nodes(train_with_failure, videos, tmp_path)
