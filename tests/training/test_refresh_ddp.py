from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from refresh_toys import FRAMES, Toy, contents, fit, make, write_videos

from vos_umec.clustering.video import cluster_video, frame_window, video_seed
from vos_umec.data.index import scan
from vos_umec.data.pseudo_masks import PseudoMaskStore


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.mark.slow
def test_two_processes_make_the_same_masks_as_one(videos, tmp_path):
    # Before the first step, so that both runs cluster with the same weights.
    for processes in (1, 2):
        strategy = "ddp_spawn" if processes > 1 else "auto"
        folder, module = tmp_path / str(processes), Toy()
        fit(
            videos, folder, make(warmup_epochs=0, every_n_epochs=0), 1, module, devices=processes, strategy=strategy
        )
    one, two = contents(tmp_path / "1" / "store"), contents(tmp_path / "2" / "store")
    assert len(one) == len(two) == 3
    assert all((one[name] == two[name]).all() for name in one)
    health = [PseudoMaskStore(tmp_path / n / "store").manifest["health"] for n in ("1", "2")]
    assert health[0] == pytest.approx(health[1])


@pytest.mark.slow
def test_all_processes_cluster_with_the_weights_of_the_checkpoint(videos, tmp_path):
    # After a step the processes' running statistics differ; the masks must not depend on who makes them.
    keep = ModelCheckpoint(dirpath=tmp_path / "ckpt", save_top_k=-1)
    fit(videos, tmp_path, make(every_n_epochs=0), epochs=2, enable_checkpointing=True,
        callbacks=[keep], devices=2, strategy="ddp_spawn")  # fmt: skip
    module = Toy.load_from_checkpoint(next((tmp_path / "ckpt").glob("epoch=0*")))
    for entry in scan(videos):
        seed = video_seed(entry.id, 1)
        indices = frame_window(FRAMES, 6, 1, seed).tolist()
        encoder, clusterer = module.network.encoder, make().build_clusterer()
        result, _ = cluster_video(entry.source(), encoder, clusterer, indices, 40, seed, torch.device("cpu"))
        assert (contents(tmp_path / "store")[entry.id] == result.segments).all()
