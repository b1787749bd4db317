from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.cli.cluster import best_union, covered_objects
from vos_umec.errors import MaskError
from vos_umec.io.masks import write_mask


def by_trying(segments, mask):
    numbers = np.unique(segments).tolist()
    best = 0.0
    for chosen in chain.from_iterable(combinations(numbers, n) for n in range(1, len(numbers) + 1)):
        union = np.isin(segments, chosen)
        best = max(best, (union & mask).sum() / (union | mask).sum())
    return best


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0.05, 0.9))
def test_the_best_union_is_the_best_of_all_unions(seed, clusters, share):
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, clusters, (2, 5, 6))
    mask = rng.random((2, 5, 6)) < share * (1 + np.cos(segments)) / 2  # so that segments differ
    mask[0, 0, 0] = True
    assert best_union(segments, mask) == pytest.approx(by_trying(segments, mask))


def test_objects_are_read_at_the_segments_size(tmp_path):
    ids = np.zeros((8, 12), np.uint8)
    ids[:4, :6], ids[4:, 6:], ids[0, 11] = 3, 9, 255
    write_mask(tmp_path / "0.png", ids)
    segments = np.zeros((1, 4, 6), np.uint8)
    segments[0, :2, :3] = 1
    segments[0, 2:, 3:] = np.array([[2, 2, 4], [2, 2, 4]])
    assert covered_objects(segments, [tmp_path / "0.png"]) == {3: 1.0, 9: 1.0}
    with pytest.raises(MaskError):
        covered_objects(segments, [tmp_path / "none.png"])
