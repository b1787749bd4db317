import multiprocessing
import os
import signal
import time
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.format import write_array_header_1_0

from vos_umec.data.pseudo_masks import PseudoMaskStore
from vos_umec.errors import ConfigError, DataError

VIDEOS = ("zoo/bear.mp4", "zoo/bear", "ünï côdé 100%.mkv", "-dash", "a\\b:c?.mov", "x" * 300)


def segments_of(generation: int, video: str, frames: int = 3) -> np.ndarray:
    """A map per frame (frames, 4, 6) that differs by generation, video and frame."""
    base = np.arange(frames)[:, None, None] + np.arange(24).reshape(4, 6) + 10 * generation + len(video)
    return (base % 251).astype(np.uint8)


def write_generation(store: PseudoMaskStore, generation: int, videos: tuple[str, ...] = VIDEOS) -> None:
    store.begin(generation)
    for video in videos:
        store.write(generation, video, np.array([0, 2, 7]), segments_of(generation, video))
    store.commit(generation, {"clusters": 5, "seed": generation})


def check_whole(store: PseudoMaskStore, videos: tuple[str, ...] = VIDEOS) -> None:
    for video in videos:
        np.testing.assert_array_equal(store.frame_indices(video), [0, 2, 7])
        np.testing.assert_array_equal(store.read(video, [0, 2, 7]), segments_of(store.generation, video))


def test_what_is_written_is_read_back_in_any_order(tmp_path: Path) -> None:
    store = PseudoMaskStore(tmp_path / "masks")
    write_generation(store, 1)
    assert store.reload() == 1
    check_whole(store)
    expected = segments_of(1, VIDEOS[0])[[2, 0, 2]]
    np.testing.assert_array_equal(store.read(VIDEOS[0], [7, 0, 7]), expected)
    assert store.manifest == {"clusters": 5, "seed": 1, "generation": 1, "videos": len(VIDEOS)}


@settings(max_examples=40, deadline=None)
@given(names=st.sets(st.text(min_size=1, max_size=90), min_size=2, max_size=4))
def test_any_two_ids_are_different_files(names: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = PseudoMaskStore(tmp_path_factory.mktemp("masks"))
    store.begin(1)
    for value, name in enumerate(sorted(names)):
        store.write(1, name, np.array([value]), np.full((1, 2, 2), value, np.uint8))
    store.commit(1, {})
    store.reload()
    for value, name in enumerate(sorted(names)):
        assert store.frame_indices(name).tolist() == [value]
        assert store.read(name, [value]).max() == value


def test_names_that_are_not_valid_text_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")  # Latin-1 on a UTF-8 system
    store = PseudoMaskStore(tmp_path)
    write_generation(store, 1, (name,))
    store.reload()
    check_whole(store, (name,))


def test_a_store_never_written_is_empty_and_leaves_no_trace(tmp_path: Path) -> None:
    store = PseudoMaskStore(tmp_path / "masks")
    assert store.generation == 0
    assert store.frame_indices("any").shape == (0,)
    assert store.manifest == {}
    assert not (tmp_path / "masks").exists()


def test_a_generation_shows_after_commit_and_reload_only(tmp_path: Path) -> None:
    store, other = PseudoMaskStore(tmp_path), PseudoMaskStore(tmp_path)
    store.begin(1)
    store.write(1, "bear", np.array([0]), np.zeros((1, 2, 2), np.uint8))
    assert other.reload() == 0
    store.commit(1, {})
    assert other.generation == 0
    assert other.reload() == 1
    assert store.generation == 0, "the process that commits reloads, too"


def test_a_discarded_generation_takes_no_more_masks(tmp_path: Path) -> None:
    store, other = PseudoMaskStore(tmp_path), PseudoMaskStore(tmp_path)
    write_generation(store, 1)
    store.reload()
    store.begin(2)
    store.write(2, "bear", np.array([0]), np.zeros((1, 2, 2), np.uint8))
    store.discard(2)
    with pytest.raises(ConfigError, match=r"generation 2 .*another process has failed"):
        other.write(2, "wolf", np.array([0]), np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(DataError, match="no pseudo mask"):
        store.commit(2, {})
    assert store.reload() == 1
    check_whole(store)


def test_the_last_two_generations_stay(tmp_path: Path) -> None:
    store = PseudoMaskStore(tmp_path)
    for generation in (1, 2, 3, 7):
        write_generation(store, generation)
        store.reload()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "generation_0003",
        "generation_0007",
        "manifest.json",
    ]
    np.testing.assert_array_equal(store.read("-dash", [2], generation=3)[0], segments_of(3, "-dash")[1])


def test_leftovers_of_a_killed_run_are_not_taken_over(tmp_path: Path) -> None:
    killed = PseudoMaskStore(tmp_path)
    killed.begin(1)
    killed.write(1, "stale", np.array([0]), np.zeros((1, 2, 2), np.uint8))
    (tmp_path / "generation_0001").mkdir()  # killed between the rename and the manifest
    (tmp_path / "generation_0001" / "stale.npz").write_bytes(b"")
    store = PseudoMaskStore(tmp_path)
    write_generation(store, 1)
    store.reload()
    check_whole(store)
    assert store.frame_indices("stale").size == 0


def test_adopting_copies_the_generation_asked_for(tmp_path: Path) -> None:
    old, new = PseudoMaskStore(tmp_path / "old"), PseudoMaskStore(tmp_path / "new")
    new.adopt(old, 4)
    assert new.reload() == 0, "there was nothing to adopt"
    for number in (4, 5):
        write_generation(old, number)
        old.reload()
    new.adopt(old, 4)
    assert new.reload() == 4
    check_whole(new)
    last = PseudoMaskStore(tmp_path / "last")
    last.adopt(old, 5)
    last.reload()
    assert last.manifest == old.manifest


@pytest.mark.parametrize(("back_to", "expected"), [(0, 0), (1, 0), (2, 2), (3, 3), (4, 3)])
def test_rewinding_goes_back_to_what_is_still_there(back_to: int, expected: int, tmp_path: Path) -> None:
    store = PseudoMaskStore(tmp_path)
    for number in (1, 2, 3):  # the first one is dropped with the third
        write_generation(store, number)
        store.reload()
    store.rewind(back_to)
    assert store.reload() == expected
    if expected:
        check_whole(store)
    store.begin(expected + 1)  # and the next refresh has the number that it would have had


def test_hidden_masks_are_not_used_and_are_replaced(tmp_path: Path) -> None:
    write_generation(PseudoMaskStore(tmp_path), 3)
    store = PseudoMaskStore(tmp_path)
    assert store.generation == 3
    store.hide()
    assert (store.generation, store.manifest, store.next) == (0, {}, 4)
    write_generation(store, store.next)
    assert store.reload() == 4
    check_whole(store)


@pytest.mark.parametrize(
    ("indices", "segments", "message"),
    [
        ([0, 1], np.zeros((3, 2, 2), np.uint8), "one map per frame"),
        ([], np.zeros((0, 2, 2), np.uint8), "one map per frame"),
        ([0], np.zeros((1, 2, 2), np.int64), "uint8"),
        ([3, 3], np.zeros((2, 2, 2), np.uint8), "ascending order"),
    ],
)
def test_segments_that_do_not_fit_are_refused(
    tmp_path: Path, indices: list[int], segments: np.ndarray, message: str
) -> None:
    store = PseudoMaskStore(tmp_path)
    store.begin(1)
    with pytest.raises(ConfigError, match=message):
        store.write(1, "bear", np.array(indices), segments)


def test_misuse_is_an_error(tmp_path: Path) -> None:
    store = PseudoMaskStore(tmp_path)
    with pytest.raises(ConfigError, match=r"begin\(1\)"):
        store.write(1, "bear", np.array([0]), np.zeros((1, 2, 2), np.uint8))
    store.begin(1)
    with pytest.raises(DataError, match=r"generation_0001\.tmp"):
        store.commit(1, {})
    write_generation(store, 1)
    store.reload()
    for call in (lambda: store.begin(1), lambda: store.commit(1, {})):
        with pytest.raises(ConfigError, match=r"generation 1 .*store\.next"):
            call()
    with pytest.raises(DataError, match=r"-dash .*\[0, 1\]"):
        store.read("-dash", [0, 1])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"generation": "x"}', '{"generation": 3}'])
def test_a_broken_manifest_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json"):
        PseudoMaskStore(tmp_path)


def test_a_damaged_file_of_masks_is_an_error(tmp_path: Path) -> None:
    store = PseudoMaskStore(tmp_path)
    store.begin(1)
    store.write(1, "bear", np.arange(3), np.random.default_rng(0).integers(0, 5, (3, 20, 30), np.uint8))
    store.commit(1, {})
    store.reload()
    (path,) = tmp_path.glob("generation_0001/*.npz")
    whole = path.read_bytes()
    places = range(0, len(whole), 41)
    flipped = [whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :] for place in places]
    damaged = [b"", whole[: len(whole) // 2], *flipped]
    found = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            store.read("bear", store.frame_indices("bear"))
        except DataError:
            found += 1
    assert found > len(damaged) / 4  # and nothing else was raised; some bits mean nothing


def test_a_file_that_states_a_huge_shape_is_an_error(tmp_path: Path) -> None:
    store = PseudoMaskStore(tmp_path)
    write_generation(store, 1, ("bear",))
    store.reload()
    (path,) = tmp_path.glob("generation_0001/*.npz")
    header = BytesIO()
    write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**15,)})
    with ZipFile(path, "w") as archive:
        for name in ("frame_indices", "0"):
            archive.writestr(f"{name}.npy", header.getvalue())
    for read in (lambda: store.frame_indices("bear"), lambda: store.read("bear", [0])):
        with pytest.raises(DataError, match="bear"):
            read()


def _write_for_ever(root: Path) -> None:
    store = PseudoMaskStore(root)
    while True:
        write_generation(store, store.generation + 1)
        store.reload()


@pytest.mark.slow
def test_killed_at_any_moment_the_last_complete_generation_is_current(tmp_path: Path) -> None:
    """Kill -9 a writer repeatedly: the current generation must be complete, and later generations must work."""
    moments = np.random.default_rng(0).uniform(0.03, 0.15, size=15)
    seen = [0]
    for moment in moments:
        writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(tmp_path,))
        writer.start()
        time.sleep(moment)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        store = PseudoMaskStore(tmp_path)
        seen.append(store.generation)
        if store.generation:
            check_whole(store)
    assert seen == sorted(seen)
    assert seen[-1] >= len(moments), "the writer hardly got anywhere: the test shows nothing"
