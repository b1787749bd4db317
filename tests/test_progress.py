"""Signs of life where there is no terminal."""

import logging
import re
import time

import pytest

from vos_umec import progress as module
from vos_umec.progress import inner_fraction, phase, progress, telling


@pytest.fixture
def lines(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="vos_umec")
    monkeypatch.setattr(module, "SOON", 0.3)
    monkeypatch.setattr(module, "terminal", lambda: False)
    return lambda: [record.getMessage() for record in caplog.records]


def slow(number, seconds):
    for item in range(number):
        time.sleep(seconds)
        yield item


def test_a_loop_tells_how_far_it_is_how_fast_and_how_long_it_takes(lines):
    assert list(progress(slow(6, 0.25), "counting", 6)) == list(range(6))
    first, *_, last = lines()
    assert re.match(r"counting: [0-5] of 6", first)
    assert any(" left" in line and ("a second" in line or "s each" in line) for line in lines())
    assert last.startswith("counting: 6 in 1.")


def test_one_long_step_is_no_silence_and_a_stall_is_told(lines, monkeypatch):
    monkeypatch.setattr(module, "_STALLED", 0.4)
    list(progress(slow(1, 1.5), "reading", 1))
    assert len([line for line in lines() if line.startswith("reading: 0 of 1, none for ")]) >= 2


def test_what_is_quick_is_not_told(lines):
    assert list(progress("abc", "spelling")) == ["a", "b", "c"]
    with phase("thinking"):
        pass
    assert not lines()


def test_only_the_innermost_work_is_told(lines):
    with phase("outer"):
        with phase("inner"):
            time.sleep(0.8)
        time.sleep(0.8)
    assert [line.split()[0] for line in lines()] == sorted(line.split()[0] for line in lines())
    assert {line.split()[0] for line in lines()} == {"inner", "outer"}


def test_an_overview_is_told_before_what_goes_on_in_it(lines):
    with phase("all"), telling(lambda: f"half of {4 * inner_fraction():g}", overview=True):
        for _ in progress(slow(3, 0.5), "counting", 4):
            pass
    assert any(re.match(r"half of [012]; counting: \d of 4", line) for line in lines())
    assert not any(line.startswith("all") for line in lines())


def test_lines_become_rare(lines, monkeypatch):
    monkeypatch.setattr(module, "LATEST", 100.0)
    with phase("thinking"):
        time.sleep(2.6)
    assert 2 <= len(lines()) <= 4  # at 0.3, 0.6, 1.2 and 2.4 seconds, or a quarter later


def test_nothing_is_told_after_the_end_even_of_a_loop_that_is_left(lines):
    for _ in progress(slow(9, 0.1), "counting", 9):
        break
    told = len(lines())
    time.sleep(0.7)
    assert len(lines()) == told
    assert not module._works
