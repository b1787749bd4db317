import math

import pytest
import torch

from vos_umec.clustering.position import position_code_3d
from vos_umec.errors import ConfigError


def slow_code(T, h, w, dim, shortest):
    """The definition, one cell and one wave at a time."""
    J = dim // 6
    code = torch.zeros(T, h, w, dim, dtype=torch.float64)
    for t in range(T):
        for y in range(h):
            for x in range(w):
                place = ((t + 0.5) / T, (y + 0.5) / max(h, w), (x + 0.5) / max(h, w))
                channels = []
                for c in place:
                    for j in range(J):
                        period = 2 * (shortest / 2) ** (j / (J - 1)) if J > 1 else 2
                        channels += [math.sin(2 * math.pi * c / period), math.cos(2 * math.pi * c / period)]
                norm = math.sqrt(sum(v * v for v in channels))
                code[t, y, x, : 6 * J] = torch.tensor([v / norm for v in channels])
    return code


@pytest.mark.parametrize(
    ("shape", "dim", "shortest"),
    [((3, 4, 6), 12, 1.0), ((2, 5, 3), 6, 1.0), ((1, 1, 1), 7, 1.0), ((4, 2, 2), 20, 0.25), ((2, 3, 3), 128, 2.0)],
)
def test_equals_the_slow_loops(shape, dim, shortest):
    code = position_code_3d(*shape, dim, shortest)
    assert code.dtype == torch.float32
    torch.testing.assert_close(code.double(), slow_code(*shape, dim, shortest), atol=1e-6, rtol=0)


def test_every_cell_has_unit_norm():
    for dim in (6, 11, 12, 47, 128):
        norms = position_code_3d(5, 7, 9, dim).norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones(5, 7, 9), atol=1e-6, rtol=0)


def test_distance_depends_on_the_difference_alone_and_treats_y_as_x():
    code = position_code_3d(4, 6, 10, dim=18)
    right, below = (code[0, 0, 1] - code[0, 0, 0]).norm(), (code[0, 1, 0] - code[0, 0, 0]).norm()
    torch.testing.assert_close(right, below)
    torch.testing.assert_close((code[3, 4, 7] - code[1, 2, 5]).norm(), (code[2, 5, 9] - code[0, 3, 7]).norm())


def test_farther_cells_differ_more_at_the_longest_period():
    code = position_code_3d(1, 1, 12, dim=6)[0, 0]
    distances = (code - code[0]).norm(dim=1)
    assert (distances.diff() > 0).all()


def test_does_not_follow_the_default_type():
    torch.set_default_dtype(torch.bfloat16)  # as Lightning sets it in bf16-true
    try:
        assert position_code_3d(2, 2, 2, 6).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("arguments", [(2, 2, 2, 5), (0, 2, 2, 6), (2, 2, 2, 6, 0.0), (2, 2, 2, 6, 2.5)])
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(ConfigError, match="expected"):
        position_code_3d(*arguments)
