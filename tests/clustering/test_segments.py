import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vos_umec.clustering import segments as segments_module
from vos_umec.clustering.kmeans import kmeans
from vos_umec.clustering.segments import SpaceTimeClusterer, position_code_3d, segment_health
from vos_umec.errors import ConfigError, DataError


def random_keys(T=3, D=8, h=4, w=6, seed=0):
    return F.normalize(torch.randn(T, D, h, w, generator=torch.Generator().manual_seed(seed)), dim=1)


def painted(labels, D=6):
    """Keys that say which of a few things each cell is: (T, h, w) integers -> (T, D, h, w)."""
    return F.one_hot(torch.as_tensor(labels), D).permute(0, 3, 1, 2).float()


def slow_bilinear(grid, H, W):
    """(h, w) to (H, W), pixel centres at half a pixel, edges clamped."""
    h, w = grid.shape
    out = np.zeros((H, W))
    for Y in range(H):
        for X in range(W):
            y = min(max((Y + 0.5) * h / H - 0.5, 0), h - 1)
            x = min(max((X + 0.5) * w / W - 0.5, 0), w - 1)
            y0, x0 = math.floor(y), math.floor(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            a, b = y - y0, x - x0
            out[Y, X] = (1 - a) * ((1 - b) * grid[y0, x0] + b * grid[y0, x1]) + a * (
                (1 - b) * grid[y1, x0] + b * grid[y1, x1]
            )
    return out


def test_segments_are_the_nearest_centroids_of_upsampled_distances():
    keys, M, weight = random_keys(), 3, 0.7
    result = SpaceTimeClusterer(M, position_weight=weight)(keys, (16, 24), seed=5)

    T, _, h, w = keys.shape
    code = position_code_3d(T, h, w)
    x = [
        torch.cat([keys[t, :, y, c], weight * code[t, y, c]]) for t in range(T) for y in range(h) for c in range(w)
    ]
    x = torch.stack(x)  # eq. 1, cell by cell
    found = kmeans(x, M, seed=5)
    distances = ((x[:, None].double() - found.centroids[None]) ** 2).sum(-1).reshape(T, h, w, M).numpy()
    number = np.argsort(np.argsort(-np.bincount(found.labels), kind="stable"))
    wrong = 0
    for t in range(T):
        maps = np.stack([slow_bilinear(distances[t, :, :, k], 16, 24) for k in range(M)])
        wrong += (number[maps.argmin(0)] != result.segments[t]).sum()
    assert wrong == 0
    assert result.segments.dtype == np.uint8


def test_a_moving_thing_is_one_segment_in_space_and_time():
    labels = np.zeros((10, 8, 12), int)
    for t in range(10):
        labels[t, 2:6, t : t + 3] = 1
    result = SpaceTimeClusterer(clusters=2)(painted(labels), (8, 12), seed=0)
    assert (result.segments == labels).all()
    assert result.health.consistency == pytest.approx((labels[1:] == labels[:-1]).mean())


def test_only_position_tells_equal_things_apart():
    labels = np.zeros((4, 6, 18), int)
    labels[:, :, 0:5] = labels[:, :, 13:18] = 1  # two equal things, far apart
    keys = painted(labels, D=12)
    without = SpaceTimeClusterer(2, position_weight=0)(keys, (6, 18), seed=0).segments
    assert (without == labels).all() or (without == 1 - labels).all()
    strong = SpaceTimeClusterer(3, position_weight=1.2)(keys, (6, 18), seed=0).segments
    left, right = strong[:, :, :4], strong[:, :, 14:]
    assert len(np.unique(left)) == len(np.unique(right)) == 1
    assert left[0, 0, 0] != right[0, 0, 0]


def test_numbers_go_from_the_largest_to_the_smallest():
    labels = np.zeros((3, 10, 10), int)
    labels[:, :3], labels[:, 3:5, :4] = 2, 1
    sizes = np.bincount(SpaceTimeClusterer(3)(painted(labels), (10, 10), seed=0).segments.ravel())
    assert sizes.tolist() == sorted(sizes.tolist(), reverse=True)
    assert sizes.tolist() == [186, 90, 24]


def test_frames_at_once_bounds_memory_and_changes_nothing(monkeypatch):
    keys = random_keys(T=11)
    whole = SpaceTimeClusterer()(keys, (16, 24), seed=0).segments
    monkeypatch.setattr(segments_module, "FRAMES_AT_ONCE", 1)
    assert (SpaceTimeClusterer()(keys, (16, 24), seed=0).segments == whole).all()


def test_autocast_around_it_changes_nothing():
    keys = random_keys(T=6, D=64, h=12, w=16)
    plain = SpaceTimeClusterer()(keys, (48, 64), seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        under = SpaceTimeClusterer()(keys, (48, 64), seed=0)
    assert (under.segments == plain.segments).all()
    assert under.health == plain.health


def test_the_seed_decides():
    keys = random_keys(T=4, h=8, w=8)
    a, b, c = (SpaceTimeClusterer(6)(keys, (32, 32), seed).segments for seed in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()


def test_health_from_the_definitions():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (4, 5, 6), generator=generator)
    labels[labels == 2] = 1
    labels[0, 0, 0] = 2  # 1 cell of 120 is above half a percent, none is below
    keys, places = torch.randn(120, 5, generator=generator), 0.3 * torch.randn(120, 4, generator=generator)
    health = segment_health(labels, keys, places, M=4)

    flat = labels.flatten().tolist()
    shares = [flat.count(k) / 120 for k in range(4)]
    assert health.entropy == pytest.approx(-sum(p * math.log(p) for p in shares if p) / math.log(4), abs=1e-5)
    assert health.small == 0.25  # the empty one
    same = [labels[t, y, x] == labels[t - 1, y, x] for t in range(1, 4) for y in range(5) for x in range(6)]
    assert health.consistency == pytest.approx(sum(map(int, same)) / len(same))

    def objective(rows):
        total = 0.0
        for k in set(flat):
            members = [rows[i] for i in range(120) if flat[i] == k]
            mean = sum(members) / len(members)
            total += sum(float(((row - mean) ** 2).sum()) for row in members)
        return total

    of_keys, of_places = objective(keys), objective(places)
    assert health.position == pytest.approx(of_places / (of_keys + of_places), rel=1e-4)


def test_health_of_extremes():
    tiles = SpaceTimeClusterer(5, position_weight=5)(random_keys(T=4, h=16, w=16), (16, 16), seed=0).health
    plain = SpaceTimeClusterer(5, position_weight=0)(random_keys(T=4, h=16, w=16), (16, 16), seed=0).health
    assert tiles.position > 0.7
    assert plain.position == 0
    constant = SpaceTimeClusterer(5, position_weight=0)(torch.ones(2, 1, 4, 4), (8, 8), seed=0).health
    assert (constant.entropy, constant.small, constant.consistency) == (0, pytest.approx(0.8), 1)
    assert SpaceTimeClusterer(2)(random_keys(T=1), (4, 6), seed=0).health.consistency == 1


def test_errors():
    for settings in ({"clusters": 1}, {"clusters": 255}, {"position_weight": -0.1}):
        with pytest.raises(ConfigError, match="expected"):
            SpaceTimeClusterer(**settings)
    with pytest.raises(DataError, match=r"\(4, .* 5"):
        SpaceTimeClusterer()(random_keys(T=1, h=2, w=2), (8, 8), seed=0)
    broken = random_keys()
    broken[0, 0, 0, 0] = math.nan
    with pytest.raises(DataError, match="finite"):
        SpaceTimeClusterer()(broken, (8, 8), seed=0)
