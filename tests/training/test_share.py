from pathlib import Path

import numpy as np
import pytest
import torch
from refresh_toys import Network, write_videos

from vos_umec.clustering.segments import SpaceTimeClusterer
from vos_umec.clustering.video import cluster_video, frame_window, video_seed
from vos_umec.clustering.videos import VideoShard
from vos_umec.data.index import scan
from vos_umec.data.pseudo_masks import PseudoMaskStore

CPU = torch.device("cpu")


@pytest.fixture
def share(tmp_path) -> VideoShard:
    torch.manual_seed(0)
    store = PseudoMaskStore(tmp_path / "store")
    store.begin(1)
    return VideoShard(store, 1, SpaceTimeClusterer(3), Network().encoder, CPU, 4, 1, 40)


def test_masks_are_those_of_one_video_after_another(share, tmp_path):
    entries = scan(write_videos(tmp_path / "videos")).entries
    healths = share.run(entries)
    share.store.commit(1, {})
    share.store.reload()
    for entry, health in zip(entries, healths, strict=True):
        source, seed = entry.source(), video_seed(entry.id, 1)
        indices = frame_window(len(source), 4, 1, seed)
        alone, _ = cluster_video(source, share.encoder, share.clusterer, indices.tolist(), 40, seed, CPU)
        assert (share.store.frame_indices(entry.id) == indices).all()
        np.testing.assert_array_equal(share.store.read(entry.id, indices), alone.segments)
        assert health == alone.health


def test_one_video_is_read_ahead_and_no_more(share, tmp_path, monkeypatch):
    root = write_videos(tmp_path / "videos")
    entries = [entry for entry in scan(root).entries for _ in range(4)]
    read, encoded = [], []
    reads, encodes = VideoShard._read, share.encoder.forward
    monkeypatch.setattr(VideoShard, "_read", lambda self, entry: read.append(entry.id) or reads(self, entry))

    def encode(x):
        encoded.append(len(read))
        return encodes(x)

    monkeypatch.setattr(share.encoder, "forward", encode)
    assert len(share.run(entries)) == 12
    # While video i is encoded, i + 1 videos have been read or i + 2 are.
    assert all(count in (i + 1, i + 2) or (i == 11 and count == 12) for i, count in enumerate(encoded))


def test_masks_that_cannot_be_written_end_the_refresh(share, tmp_path, monkeypatch):
    entries = scan(write_videos(tmp_path / "videos")).entries

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(share.store, "write", full)
    with pytest.raises(OSError, match="No space"):
        share.run(entries)
    assert not list(Path(tmp_path / "store").rglob("*.npz"))
