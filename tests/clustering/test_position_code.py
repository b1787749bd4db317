import math

import torch

from vos_umec.clustering.segments import position_code_3d


def slow_code(T, h, w):
    """The definition, one cell and one wave at a time."""
    code = torch.zeros(T, h, w, 12, dtype=torch.float64)
    for t in range(T):
        for y in range(h):
            for x in range(w):
                place = ((t + 0.5) / T, (y + 0.5) / max(h, w), (x + 0.5) / max(h, w))
                angles = [2 * math.pi * c / period for c in place for period in (2, 1)]
                channels = [v for angle in angles for v in (math.sin(angle), math.cos(angle))]
                norm = math.sqrt(sum(v * v for v in channels))
                code[t, y, x] = torch.tensor([v / norm for v in channels])
    return code


def test_equals_the_slow_loops():
    for shape in ((3, 4, 6), (2, 5, 3), (1, 1, 1)):
        code = position_code_3d(*shape)
        assert code.dtype == torch.float32
        torch.testing.assert_close(code.double(), slow_code(*shape), atol=1e-6, rtol=0)


def test_every_cell_has_unit_norm():
    torch.testing.assert_close(position_code_3d(5, 7, 9).norm(dim=-1), torch.ones(5, 7, 9), atol=1e-6, rtol=0)


def test_distance_depends_on_the_difference_alone_and_treats_y_as_x():
    code = position_code_3d(4, 6, 10)
    right, below = (code[0, 0, 1] - code[0, 0, 0]).norm(), (code[0, 1, 0] - code[0, 0, 0]).norm()
    torch.testing.assert_close(right, below)
    torch.testing.assert_close((code[3, 4, 7] - code[1, 2, 5]).norm(), (code[2, 5, 9] - code[0, 3, 7]).norm())


def test_farther_cells_differ_more_at_the_longest_period():
    code = position_code_3d(1, 1, 12)[0, 0, :, 8:10]  # of x
    assert ((code - code[0]).norm(dim=1).diff() > 0).all()


def test_does_not_follow_the_default_type():
    torch.set_default_dtype(torch.bfloat16)  # as Lightning sets it in bf16-true
    try:
        assert position_code_3d(2, 2, 2).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
