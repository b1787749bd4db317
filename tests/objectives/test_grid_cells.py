import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_umec.objectives.cells import jittered_grid, random_cells, read_cells


@settings(max_examples=40, deadline=None)
@given(
    h=st.integers(1, 6),
    w=st.integers(1, 6),
    count=st.integers(1, 40),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_random_cells_are_distinct_and_valid_first(h, w, count, share, seed):
    torch.manual_seed(seed)
    valid = torch.rand(3, h, w) < share
    cells, ok = random_cells(valid, count)
    assert cells.shape == (3, min(count, h * w))
    for b in range(3):
        assert len(set(cells[b].tolist())) == cells.shape[1]
        assert torch.equal(valid[b].flatten()[cells[b]], ok[b])
        assert int(ok[b].sum()) == min(cells.shape[1], int(valid[b].sum()))


def test_random_cells_are_uniform():
    valid = torch.ones(4000, 2, 4, dtype=torch.bool)
    cells, _ = random_cells(valid, 2)
    counts = torch.bincount(cells.flatten(), minlength=8)
    assert (counts - 1000).abs().max() < 150


@settings(max_examples=40, deadline=None)
@given(h=st.integers(1, 20), w=st.integers(1, 20), side=st.integers(1, 8), seed=st.integers(0, 99))
def test_lattice_is_regular_inside_and_distinct(h, w, side, seed):
    torch.manual_seed(seed)
    cells = jittered_grid(2, (h, w), side)
    assert cells.shape == (2, min(side, h) * min(side, w))
    assert cells.min() >= 0
    assert cells.max() < h * w
    for b in range(2):
        assert len(set(cells[b].tolist())) == cells.shape[1]


def test_lattice_reaches_every_cell_and_clips_differ():
    cells = jittered_grid(400, (8, 12), 4)
    assert set(cells.flatten().tolist()) == set(range(96))
    assert not torch.equal(cells[0], cells[1])


def test_read_cells_picks_row_and_column():
    maps = torch.rand(2, 5, 3, 4)
    cells = torch.randint(0, 12, (2, 6))
    out = read_cells(maps, cells)
    for b in range(2):
        for i in range(6):
            y, x = divmod(int(cells[b, i]), 4)
            assert torch.equal(out[b, i], maps[b, :, y, x])
