"""A session lies on disk: a process that ends at any moment loses nothing, and others cannot get in between."""

import json
import subprocess
import sys

import numpy as np
import pytest
from app_toys import SIZE, write_frames

from vos_umec.app.session import Session, TrackedObject
from vos_umec.app.store import SessionStore
from vos_umec.errors import ConfigError, DataError, MaskError
from vos_umec.io.masks import read_mask, write_mask


@pytest.fixture
def store(tmp_path):
    return SessionStore(tmp_path / "sessions")


@pytest.fixture
def session(store, tmp_path):
    return store.create(write_frames(tmp_path / "clip"))


def squares(**places):
    """A mask with 16 x 16 squares: o1=(top, left)."""
    ids = np.zeros(SIZE, np.uint8)
    for name, (y, x) in places.items():
        ids[y : y + 16, x : x + 16] = int(name[1:])
    return ids


def test_what_was_done_is_found_again(store, session, tmp_path):
    session.change_object(1, {"name": "  cat ", "color": "#00ff00"})
    session.add_object()
    mask = squares(o1=(8, 8), o2=(36, 66))
    session.draw(3, mask, [1, 2])
    session.put_result(4, squares(o1=(9, 9)))
    facts = session.facts()
    store.close()
    (session.folder / "masks" / ".00005.png.123.tmp").write_bytes(b"half a file")  # of a process that was killed
    again = SessionStore(tmp_path / "sessions").of_video(tmp_path / "clip")
    assert again.facts() == facts
    assert facts["objects"][0] | {} == {"id": 1, "name": "cat", "color": "#00ff00", "locked": False}
    assert (facts["drawn"], facts["done"]) == ({"3": [1, 2]}, [3, 4])
    np.testing.assert_array_equal(again.mask(3), mask)
    assert not again.mask(5).any()


def test_a_drawing_is_kept_apart_from_what_came_from_following(session):
    session.add_object()
    session.draw(2, squares(o1=(8, 8), o2=(36, 66)), [2])
    drawing, ids = session.drawing(2)
    np.testing.assert_array_equal(drawing, squares(o2=(36, 66)))
    assert ids == [2]
    session.draw(2, squares(o1=(8, 8)), [2])  # erased: drawn to be absent
    assert session.drawing(2)[1] == [2]
    assert not session.drawing(2)[0].any()
    session.draw(2, np.zeros(SIZE, np.uint8), [])  # undone
    assert session.facts()["done"] == []
    assert session.drawing(2) == (None, [])


def test_a_removed_object_is_in_no_mask(session):
    session.add_object()
    session.draw(0, squares(o1=(8, 8), o2=(36, 66)), [1, 2])
    session.put_result(1, squares(o1=(8, 8), o2=(36, 66)))
    session.draw(2, squares(o1=(8, 8)), [1])
    session.remove_object(1)
    for index in (0, 1):
        np.testing.assert_array_equal(session.mask(index), squares(o2=(36, 66)))
    assert session.facts()["drawn"] == {"0": [2]}
    assert session.add_object().id == 1  # its number is free


def test_a_locked_object_stays_as_it_is(session):
    session.add_object()
    session.draw(1, squares(o1=(8, 8)), [1])
    session.change_object(1, {"locked": True})
    session.put_result(1, squares(o2=(16, 16)))
    expected = squares(o2=(16, 16))
    expected[squares(o1=(8, 8)) == 1] = 1
    np.testing.assert_array_equal(session.mask(1), expected)


def test_what_does_not_fit_is_refused(session):
    with pytest.raises(MaskError, match="no object 7"):
        session.draw(0, squares(o7=(8, 8)), [7])
    with pytest.raises(MaskError, match="32"):
        session.draw(0, np.zeros((32, 32), np.uint8), [])
    with pytest.raises(DataError, match="0 to 7"):
        session.draw(8, squares(o1=(8, 8)), [1])
    for wrong in ({"color": "red"}, {"name": " "}, {"locked": 1}, {"id": 3}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            session.change_object(1, wrong)
    assert session.facts()["done"] == []


def test_at_most_254_objects_each_with_a_number_of_its_own(session):
    session.objects = [TrackedObject(number, "x", "#000000") for number in range(1, 255) if number != 77]
    assert session.add_object().id == 77
    assert {o.id for o in session.objects} == set(range(1, 255))
    with pytest.raises(ConfigError, match="254"):
        session.add_object()


def test_an_interruption_between_two_files_leaves_a_session_that_opens(store, session):
    session.draw(0, squares(o1=(8, 8)), [1])
    store.close()
    (session.folder / "drawn" / "00000.png").unlink()  # `clear` had begun
    again = Session(session.folder)
    assert again.drawing(0) == (None, [])
    again.close()
    write_mask(session.folder / "masks" / "00005.png", squares(o1=(8, 8)))  # `put_result` writes nothing else
    assert Session(session.folder).facts()["done"] == [0, 5]


def test_a_video_that_has_changed_is_not_mixed_with_its_old_masks(store, session, tmp_path):
    store.close()
    (tmp_path / "clip" / "00003.png").unlink()
    assert SessionStore(store.root).of_video(tmp_path / "clip") is None
    with pytest.raises(DataError, match="has changed"):
        Session(session.folder)
    SessionStore(store.root).remove(session.id)
    assert store.listing() == []
    assert (tmp_path / "clip" / "00000.png").exists()


def test_two_processes_do_not_have_one_session(session):
    code = (
        "from pathlib import Path; from vos_umec.app.session import Session; "
        f"Session(Path({str(session.folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert "ConfigError" in done.stderr
    assert "another vos-umec app" in done.stderr


def test_a_name_from_outside_leads_nowhere_else(store, session):
    for name in ("..", "../sessions", "a/b", "", ".", session.id + "\n"):
        with pytest.raises(DataError):
            store.get(name)


def test_a_list_shows_what_can_be_read(store, session, tmp_path, caplog):
    session.draw(0, squares(o1=(8, 8)), [1])
    (store.root / "broken").mkdir()
    (store.root / "broken" / "session.json").write_text("{")
    (about,) = store.listing()
    assert (about["name"], about["frames"], about["masks"], about["there"]) == ("clip", 8, 1, True)
    assert "broken" in caplog.text
    assert read_mask(session.mask_path(0)).any()
    assert json.loads((session.folder / "session.json").read_text())["revision"] == session.revision
