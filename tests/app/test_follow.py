"""What the app follows is what the library gives for the same masks."""

import numpy as np
import pytest
from app_toys import SIZE, model, write_frames

from vos_umec.app.follow import MEMORY, follow, seconds_a_frame
from vos_umec.app.jobs import Jobs
from vos_umec.app.store import SessionStore
from vos_umec.errors import ConfigError
from vos_umec.inference.segmenter import VideoSegmenter
from vos_umec.io.source import open_source


@pytest.fixture(scope="module")
def network():
    return model(short_side=32)


@pytest.fixture
def session(tmp_path):
    session = SessionStore(tmp_path / "sessions").create(write_frames(tmp_path / "clip"))
    session.add_object()
    return session


@pytest.fixture
def frames(tmp_path, session):
    return open_source(tmp_path / "clip").read(range(8))


def first(red=1, blue=2):
    ids = np.zeros(SIZE, np.uint8)
    ids[8:28, 8:28] = red
    ids[36:56, 66:86] = blue
    return ids


def masks(session, indices):
    return np.stack([session.mask(index) for index in indices])


def library(network, frames, prompts):
    return np.stack([ids for _, ids in network.segmenter(None).segment(frames, prompts)])


def test_forward_is_what_the_library_gives(network, session, frames):
    session.draw(0, first(), [1, 2])
    assert list(follow(network, session, 0, backward=False)) == list(range(1, 8))
    found = masks(session, range(8))
    np.testing.assert_array_equal(found[0], first())
    np.testing.assert_array_equal(found[1:], library(network, frames, {0: first()})[1:])
    for color in (1, 2):
        assert (found[7] == color).sum() > 100  # something was followed
    assert not (session.folder / MEMORY).exists()  # at the end there is nothing to go on with


def test_a_correction_is_followed_as_it_is_shown(network, session, frames):
    session.draw(0, first(), [1, 2])
    list(follow(network, session, 0, backward=False))
    corrected = session.mask(3)
    corrected[8:30, 15:40] = 1
    session.draw(3, corrected, [1])
    before = masks(session, range(3))
    list(follow(network, session, 3, backward=False))
    np.testing.assert_array_equal(masks(session, range(3)), before)
    np.testing.assert_array_equal(session.mask(3), corrected)
    np.testing.assert_array_equal(masks(session, range(4, 8)), library(network, frames[3:], {0: corrected})[1:])


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(network, session, frames, tmp_path):
    session.draw(0, first(), [1, 2])
    run = follow(network, session, 0, backward=False)
    assert [next(run) for _ in range(3)] == [1, 2, 3]
    run.close()
    network.segmenter(None)  # another session's work in between
    session.close()
    again = SessionStore(tmp_path / "sessions").of_video(tmp_path / "clip")  # another process
    assert list(follow(network, again, 3, backward=False)) == [4, 5, 6, 7]
    np.testing.assert_array_equal(masks(again, range(1, 8)), library(network, frames, {0: first()})[1:])


def test_what_was_drawn_since_a_stop_counts(network, session, frames):
    session.draw(0, first(), [1, 2])
    run = follow(network, session, 0, backward=False)
    assert [next(run) for _ in range(3)] == [1, 2, 3]
    run.close()
    corrected = session.mask(3)
    corrected[40:60, 40:70] = 2
    session.draw(3, corrected, [2])
    list(follow(network, session, 3, backward=False))
    np.testing.assert_array_equal(session.mask(3), corrected)
    np.testing.assert_array_equal(masks(session, range(4, 8)), library(network, frames[3:], {0: corrected})[1:])


def test_backward_is_the_library_on_the_reversed_video(network, session, frames):
    session.draw(7, first()[:, ::-1].copy(), [1, 2])
    assert list(follow(network, session, 7, backward=True)) == [6, 5, 4, 3, 2, 1, 0]
    expected = library(network, frames[::-1], {0: first()[:, ::-1]})
    np.testing.assert_array_equal(masks(session, range(6, -1, -1)), expected[1:])


def test_a_drawing_on_the_way_is_a_prompt(network, session, frames):
    session.draw(0, first(blue=0), [1])
    later = np.zeros(SIZE, np.uint8)
    later[36:56, 54:74] = 2
    session.draw(4, later, [2])
    list(follow(network, session, 0, backward=False))
    expected = library(network, frames, {0: first(blue=0), 4: later})
    others = [0, 1, 2, 3, 5, 6, 7]
    np.testing.assert_array_equal(masks(session, others), expected[others])
    np.testing.assert_array_equal(session.mask(4) == 2, later == 2)


def test_locked_objects_are_not_followed(network, session, frames):
    session.draw(0, first(), [1, 2])
    session.change_object(2, {"locked": True})
    list(follow(network, session, 0, backward=False))
    alone = library(network, frames, {0: first(blue=0)})
    np.testing.assert_array_equal(masks(session, range(1, 8)), alone[1:])
    np.testing.assert_array_equal(session.mask(0), first())


def test_a_hidden_object_is_looked_for_from_behind_but_not_an_erased_one(network, session, frames):
    session.draw(0, first(), [1, 2])
    session.draw(2, first(blue=0), [1])
    list(follow(network, session, 2, backward=False))
    assert (masks(session, range(3, 8)) == 2).any()
    session.draw(2, first(blue=0), [1, 2])  # erased on purpose
    list(follow(network, session, 2, backward=False))
    assert not (masks(session, range(3, 8)) == 2).any()


def test_nothing_to_follow_is_said(network, session):
    with pytest.raises(ConfigError, match="00003 shows no object"):
        list(follow(network, session, 3, backward=False))
    assert session.facts()["done"] == []


def test_the_speed_is_measured_for_as_many_objects(network, session):
    assert 0 < seconds_a_frame(network, session) < 60
    assert network.segmenter(None).ids == []


def test_the_speed_is_that_of_a_full_memory(network, session, monkeypatch):
    read = []
    step = VideoSegmenter.step
    monkeypatch.setattr(
        VideoSegmenter, "step", lambda self, *given: read.append(len(self.memory)) or step(self, *given)
    )
    seconds_a_frame(network, session)
    assert read[-1] == 1 + network.segmenter(None).references


def test_what_is_too_small_and_what_is_lost_is_told(network, session):
    drawn = np.zeros(SIZE, np.uint8)
    drawn[8:28, 8:28] = 1
    drawn[50, 10] = 2
    session.draw(0, drawn, [1, 2])
    told = []
    found = [session.mask(index) for index in follow(network, session, 0, False, told.append)]
    last = max((i for i, ids in enumerate(found, start=1) if (ids == 2).any()), default=0)
    assert last < 7
    assert "object 2 is too small" in told[0]
    assert f"object 2 is hardly seen after frame {last:05d}" in told[1]
    assert len(told) == 2


def test_a_run_tells_its_warnings(network, session):
    drawn = np.zeros(SIZE, np.uint8)
    drawn[50, 10] = 1
    session.draw(0, drawn, [1])
    told = []
    jobs = Jobs(network, lambda _, message: told.append(message["run"]))
    jobs.start(session, 0, backward=False)
    jobs._thread.submit(lambda: None).result(timeout=100)
    jobs.close()
    assert told[-1]["state"] == "ended"
    assert "too small" in told[-1]["warnings"][0]


def test_runs_of_two_sessions_take_turns_and_stop(network, session, tmp_path):
    store = SessionStore(tmp_path / "sessions")
    other = store.create(write_frames(tmp_path / "other", frames=6))
    session.draw(0, first(), [1, 2])
    other.draw(0, first(blue=0), [1])
    told = []

    def tell(name, message):
        told.append((name, message["run"]["state"], message["run"]["done"]))
        if name == session.id and told[-1][1:] == ("running", 2):
            jobs.stop(session)

    jobs = Jobs(network, tell)
    jobs.start(session, 0, backward=False)
    with pytest.raises(ConfigError, match="stop that first"):
        jobs.start(session, 0, backward=False)
    jobs.start(other, 0, backward=False)
    with pytest.raises(ConfigError, match="last frame"):
        jobs.start(store.create(write_frames(tmp_path / "third", frames=1)), 0, backward=False)
    jobs._thread.submit(lambda: None).result(timeout=100)
    jobs.close()
    assert told[-1] == (other.id, "ended", 5)
    assert (session.id, "stopped", 2) in told
    assert told.index((session.id, "stopped", 2)) < told.index((other.id, "running", 0))
    assert session.facts()["done"] == [0, 1, 2]
    assert other.facts()["done"] == list(range(6))
    assert not (masks(other, range(6)) == 2).any()


def test_a_run_that_fails_says_why(network, session):
    told = []
    jobs = Jobs(network, lambda _, message: told.append(message["run"]))
    jobs.start(session, 2, backward=True)
    jobs._thread.submit(lambda: None).result(timeout=100)
    jobs.close()
    assert told[-1]["state"] == "failed"
    assert "no object to follow" in told[-1]["error"]
    jobs.require_idle(session.id)
