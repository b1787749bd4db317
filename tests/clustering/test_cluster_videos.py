from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from vos_umec.clustering import videos as module
from vos_umec.clustering.segments import SpaceTimeClusterer
from vos_umec.clustering.video import cluster_video, frame_window, video_seed
from vos_umec.clustering.videos import cluster_videos
from vos_umec.data.index import VideoEntry, scan
from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.models.encoder import ResNetEncoder

CPU = torch.device("cpu")
CLUSTERER = SpaceTimeClusterer(3)


@pytest.fixture
def entries(tmp_path) -> list[VideoEntry]:
    """Three videos of a square that moves over a ramp."""
    for number, name in enumerate(("a", "b", "deep/c d é")):
        folder = tmp_path / "videos" / name
        folder.mkdir(parents=True)
        for t in range(10):
            frame = np.zeros((40, 56, 3), np.uint8)
            frame[..., number] = np.linspace(0, 120, 56)
            frame[8:28, 2 * t : 2 * t + 20] = 250 - 60 * number
            Image.fromarray(frame).save(folder / f"{t:05d}.png")
    return list(scan(tmp_path / "videos").entries)


@pytest.fixture
def encoder() -> ResNetEncoder:
    return ResNetEncoder(blocks=(1, 1), strides=(1, 1), key_dim=8)


@pytest.fixture
def store(tmp_path) -> PseudoMaskStore:
    store = PseudoMaskStore(tmp_path / "store")
    store.begin(1)
    return store


def cluster(entries, store, encoder, **options):
    return cluster_videos(entries, store, 1, CLUSTERER, encoder, CPU, 4, 1, 40, **options)


@pytest.mark.parametrize(
    ("workers", "writers", "start"),
    [(0, 1, None), (2, 3, None), pytest.param(1, 1, "spawn", marks=pytest.mark.slow)],
)
def test_masks_are_those_of_one_video_after_another(
    workers, writers, start, entries, store, encoder, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "CPU_WRITERS", writers)
    monkeypatch.setattr(module, "DataLoader", partial(DataLoader, multiprocessing_context=start))
    picture = tmp_path / "pictures" / "b.png"
    healths = cluster(entries, store, encoder, pictures={"b": picture}, workers=workers)
    store.commit(1, {})
    store.reload()
    for entry, health in zip(entries, healths, strict=True):
        source, seed = entry.source(), video_seed(entry.id, 1)
        indices = frame_window(len(source), 4, 1, seed)
        alone, _ = cluster_video(source, encoder, CLUSTERER, indices.tolist(), 40, seed, CPU)
        assert (store.frame_indices(entry.id) == indices).all()
        np.testing.assert_array_equal(store.read(entry.id, indices), alone.segments)
        assert health == alone.health
    assert [path.name for path in picture.parent.iterdir()] == ["b.png"]


def test_one_video_is_read_ahead_and_no_more(entries, store, encoder, monkeypatch):
    read, encoded = [], []
    draw, encode = frame_window, encoder.forward
    monkeypatch.setattr(module, "frame_window", lambda *arguments: read.append(1) or draw(*arguments))
    monkeypatch.setattr(encoder, "forward", lambda x: encoded.append(len(read)) or encode(x))
    assert len(cluster([entry for entry in entries for _ in range(4)], store, encoder)) == 12
    # While video i is encoded, i + 1 videos have been read or i + 2 are.
    assert all(count in (i + 1, i + 2) or (i == 11 and count == 12) for i, count in enumerate(encoded))


@pytest.mark.parametrize("workers", [0, 1])
def test_videos_that_cannot_be_read_or_clustered_are_left_out(workers, entries, store, encoder, tmp_path, caplog):
    for frame in (tmp_path / "videos" / "b").iterdir():
        frame.write_bytes(b"nothing")
    assert len(cluster(entries, store, encoder, workers=workers)) == 2
    assert caplog.text.count("b gets no pseudo masks: cannot read") == 1
    encoder.head[-1].weight.data.fill_(float("nan"))
    assert cluster(entries, store, encoder) == []


def test_masks_that_cannot_be_written_end_the_refresh(entries, store, encoder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="No space"):
        cluster(entries, store, encoder)
    assert not list(Path(store.root).rglob("*.npz"))


def test_threads_work_on_the_gpu_of_their_process(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for device in ("cpu", "cuda", "cuda:3"):
        module._use(torch.device(device))
    assert chosen == [torch.device("cuda", 3)]


def test_threads_begin_with_the_choice_of_the_gpu(entries, store, encoder, monkeypatch):
    chosen = []
    monkeypatch.setattr(module, "_use", chosen.append)
    cluster(entries, store, encoder)
    assert chosen == [CPU]
