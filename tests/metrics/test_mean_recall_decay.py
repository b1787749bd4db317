from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vos_umec.errors import DataError
from vos_umec.metrics.sequence import mean_recall_decay


def slow_quarters(n):
    """Frames, from 0, of the first and the last quarter: borders 1 + (n - 1) k / 4 rounded half up, shared."""
    borders = [(1 + Fraction(n - 1, 4) * k + Fraction(1, 2)).__floor__() for k in range(5)]
    return range(borders[0] - 1, borders[1]), range(borders[3] - 1, borders[4])


@pytest.mark.parametrize("n", [*range(1, 301), 350, 500, 1200])
def test_decay_for_any_length(n):
    values = np.random.default_rng(n).random(n)
    first, last = slow_quarters(n)
    expected = sum(values[i] for i in first) / len(first) - sum(values[i] for i in last) / len(last)
    assert mean_recall_decay(values).decay == pytest.approx(expected, abs=1e-12)


def test_decay_of_a_long_video_is_not_computed_in_8_bits():
    values = np.linspace(1, 0, 300)  # in 8 bits the last border, 299, is 43, and the last quarter is empty
    assert mean_recall_decay(values).decay == pytest.approx(values[:76].mean() - values[224:].mean())
    assert mean_recall_decay(values).decay == pytest.approx(0.75, abs=0.01)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_mean_recall_and_bounds(values):
    mean, recall, decay = mean_recall_decay(values)
    assert mean == pytest.approx(sum(values) / len(values))
    assert recall == pytest.approx(sum(value > 0.5 for value in values) / len(values))
    assert -1 <= decay <= 1
    # On one frame the quarters are the same; for more the decay turns round with time.
    assert mean_recall_decay(values[::-1]).mean == pytest.approx(mean)


def test_recall_is_strict():
    assert mean_recall_decay([0.5, 0.5]).recall == 0
    assert mean_recall_decay([np.nextafter(0.5, 1), 0.5]).recall == 0.5


@pytest.mark.parametrize("values", [[], [[0.5, 0.5]], 0.5])
def test_refuses_what_is_not_a_list_of_values(values):
    with pytest.raises(DataError, match=r"expected \(T,\)"):
        mean_recall_decay(values)
