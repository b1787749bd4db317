"""The order of frames whose names hold numbers of every kind."""

import random

import pytest

from vos_umec.io.order import natural_order


def ordered(names: list[str]) -> list[str]:
    return [names[place] for place in natural_order(names)]


@pytest.mark.parametrize(
    "names",
    [
        [str(1700000000 + k / 24) for k in range(60)],  # as time.time() prints it: fractions of 1 to 7 digits
        [f"{k * 1001 / 30000:.3f}" for k in range(60)],
        [f"cam0.{1700000000 + k / 48}" for k in range(48)],
        [f"t={k / 8}" for k in range(-20, 20)],
        [str(k) for k in range(-12, 12)],
        [f"frame{k}" for k in range(-12, 12)],
        [f"clip-{k}" for k in range(20)],  # a minus that parts
        [f"-{k}" for k in range(20)],
        [f"shot.{k // 12}.{k % 12}" for k in range(40)],  # a point that parts: 1.9 before 1.10
        [f"{k // 12}.{k % 12}" for k in range(40)],
        [f"2024.{month}.{day}" for month in range(1, 13) for day in range(1, 32)],
        [f"{k:05d}" if k % 2 else str(k) for k in range(30)],  # mixed padding
        [f"{10**19 + k}" for k in range(30)],
        ["1,04166", "1,125", "1,25"],
        ["IMG_9", "img_10", "IMG_11"],
    ],
)
def test_names_are_in_the_order_of_their_numbers(names: list[str]) -> None:
    shuffled = random.Random(0).sample(names, len(names))
    assert ordered(shuffled) == names


def test_equal_numbers_are_in_the_order_of_their_text() -> None:
    assert ordered(["01", "1", "001"]) == ["001", "01", "1"]
