import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vos_umec.errors import MaskError
from vos_umec.metrics.jf import jaccard

shapes = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
pairs = shapes.flatmap(lambda shape: st.tuples(*[npst.arrays(bool, shape)] * 2))


def slow_jaccard(prediction, target):
    values = []
    for mask, truth in zip(prediction.tolist(), target.tolist(), strict=True):
        both = either = 0
        for row, truth_row in zip(mask, truth, strict=True):
            for p, g in zip(row, truth_row, strict=True):
                both += p and g
                either += p or g
        values.append(both / either if either else 1.0)
    return values


@given(pairs)
def test_equals_a_loop_over_pixels(pair):
    assert jaccard(*pair).tolist() == slow_jaccard(*pair)


@given(pairs)
def test_symmetric_and_one_for_itself(pair):
    prediction, target = pair
    assert np.array_equal(jaccard(prediction, target), jaccard(target, prediction))
    assert (jaccard(target, target) == 1).all()


def test_empty_cases():
    empty, full = np.zeros((1, 3, 3), bool), np.ones((1, 3, 3), bool)
    assert jaccard(empty, empty).tolist() == [1.0]
    assert jaccard(empty, full).tolist() == [0.0]
    assert jaccard(full, empty).tolist() == [0.0]
    assert jaccard(empty[:0], empty[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        (np.zeros((2, 3, 3), bool), np.zeros((1, 3, 3), bool)),
        (np.zeros((3, 3), bool), np.zeros((3, 3), bool)),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3), bool)),
    ],
)
def test_refuses_what_are_not_two_stacks_of_masks(prediction, target):
    with pytest.raises(MaskError, match="two boolean arrays"):
        jaccard(prediction, target)
