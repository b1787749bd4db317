import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vos_umec.clustering import video
from vos_umec.clustering.segments import SpaceTimeClusterer
from vos_umec.clustering.video import cluster_video, encode_frames, frame_window, video_seed
from vos_umec.errors import ConfigError
from vos_umec.models.encoder import Features
from vos_umec.models.factory import build_network

CPU = torch.device("cpu")


class Square:
    """A bright square that moves over a dark ground, read like any video."""

    def __init__(self, frames=12, size=(50, 71)):
        self.size = size
        self.video = np.full((frames, *size, 3), 30, np.uint8)
        for t in range(frames):
            self.video[t, 12:32, 4 * t : 4 * t + 20] = (220, 120, 40)
        self.asked = []

    def __len__(self):
        return len(self.video)

    def read(self, indices, size):
        assert size == self.size
        self.asked.append(list(indices))
        return self.video[list(indices)]


class Color(nn.Module):
    """Mean color of each cell as key, and a norm layer with running statistics."""

    stride = 4

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.seen = []

    def forward(self, x):
        assert not self.training
        assert not self.norm.training
        self.seen.append(tuple(x.shape))
        return Features(F.normalize(F.avg_pool2d(self.norm(x), self.stride), dim=1), x, ())


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 30), st.integers(1, 6), st.integers(0, 99))
def test_windows_are_even_and_inside(frames, count, gap, seed):
    window = frame_window(frames, count, gap, seed)
    steps = set(np.diff(window).tolist())
    assert window[0] >= 0
    assert window[-1] < frames
    assert 1 <= len(window) <= count
    assert len(steps) <= 1
    if frames > (count - 1) * gap:
        assert len(window) == count
        assert steps <= {gap}
    else:
        assert steps <= set(range(1, gap + 1))
        assert 2 * len(window) >= min(count, frames)  # not thinned to nothing
    assert (window == frame_window(frames, count, gap, seed)).all()


def test_windows_start_anywhere():
    assert {int(frame_window(20, 4, 5, seed)[0]) for seed in range(200)} == {0, 1, 2, 3, 4}


def test_impossible_windows_are_refused():
    for arguments in ((0, 4, 1), (9, 0, 1), (9, 4, 0)):
        with pytest.raises(ConfigError, match="at least 1"):
            frame_window(*arguments, seed=0)


@pytest.mark.slow
def test_seeds_are_stable_across_processes():
    command = "from vos_umec.clustering.video import video_seed; print(video_seed('a/b c.mp4', 3))"
    answer = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert int(answer) == video_seed("a/b c.mp4", 3)
    seeds = {video_seed(f"video{i}", refresh) for i in range(100) for refresh in range(10)}
    assert len(seeds) == 1000
    assert video_seed("caf\udce9.mp4", 1) >= 0  # a file name that is not valid text


def test_segments_follow_the_thing():
    source, encoder = Square(), Color()
    result, frames = cluster_video(source, encoder, SpaceTimeClusterer(2), range(12), 50, 0, CPU)
    truth = source.video[..., 0] > 100
    assert result.segments.shape == truth.shape
    overlap = ((result.segments == 1) & truth).sum() / ((result.segments == 1) | truth).sum()
    assert overlap > 0.8
    assert (frames == source.video).all()


def test_frames_are_read_at_once_and_encoded_in_batches_padded_to_whole_cells(monkeypatch):
    source, encoder = Square(), Color()
    _, frames = cluster_video(source, encoder, SpaceTimeClusterer(2), [1, 3, 5, 7, 9], 50, 0, CPU)
    assert source.asked == [[1, 3, 5, 7, 9]]
    encoder.seen.clear()
    monkeypatch.setattr(video, "CPU_FRAMES", 2)
    parts = encode_frames(frames, encoder, CPU)
    assert encoder.seen == [(2, 3, 52, 72), (2, 3, 52, 72), (1, 3, 52, 72)]
    monkeypatch.setattr(video, "CPU_FRAMES", 5)
    torch.testing.assert_close(parts, encode_frames(frames, encoder, CPU))


def test_frames_are_encoded_in_bf16_where_the_hardware_has_it(monkeypatch):
    seen = []

    class Asked(Color):
        def forward(self, x):
            seen.append(
                (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_grad_enabled())
            )
            return super().forward(x)

    for has in (True, False):
        monkeypatch.setattr(video, "multiplies_bf16", lambda device, has=has: has)
        encode_frames(np.zeros((1, 8, 8, 3), np.uint8), Asked(), CPU)
    assert seen == [(True, torch.bfloat16, False), (False, torch.bfloat16, False)]


def test_the_encoder_is_left_as_it_came():
    encoder = build_network("tiny").encoder
    encoder.train()
    encoder.head.eval()  # frozen by the user
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    cluster_video(Square(), encoder, SpaceTimeClusterer(3), [0, 4], 50, 0, CPU)
    assert encoder.training
    assert encoder.net.training
    assert not encoder.head.training
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    x = torch.rand(2, 3, 16, 16)
    encoder(x).key.sum().backward()  # nothing of the clustering hinders training


def test_real_videos(real_data: Path):
    from vos_umec.io.source import open_source

    source = open_source(real_data / "videos" / "davis_train" / "boat.avi")
    encoder = build_network("tiny").encoder
    indices = frame_window(len(source), 4, 2, seed=0).tolist()
    result, frames = cluster_video(source, encoder, SpaceTimeClusterer(), indices, 96, 0, CPU)
    assert result.segments.shape == frames.shape[:3] == (4, 96, 171)
    assert set(np.unique(result.segments)) <= set(range(5))
    assert result.health.consistency > 0.5
