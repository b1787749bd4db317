"""Sources across processes: pickled, forked, in loader workers, and let go."""

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from vos_umec.errors import VideoReadError
from vos_umec.io.container import PictureMaker, decoding_threads
from vos_umec.io.frames import SourceFacts
from vos_umec.io.pyav import PyAVSource
from vos_umec.io.scan import scan_facts, scan_video
from vos_umec.io.source import FrameSource, open_source


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_sources_travel_by_pickle(make_clip, numbers, reader) -> None:
    path = make_clip(frames=9)
    source = open_source(path, SourceFacts(reader, 9, (48, 64), 25.0))
    source.read([3])
    copy = pickle.loads(pickle.dumps(source))
    assert copy.facts == source.facts
    assert numbers(copy.read([5])) == [5]


def _read_and_forget(reader: str) -> list[int]:
    """In a forked child: use the source the parent has used, and free it."""
    source = _INHERITED[reader]
    shown = source.read([5, 2])[:, 12].mean(axis=(1, 2)).round().astype(int).tolist()
    del _INHERITED[reader], source
    return shown


_INHERITED: dict[str, FrameSource] = {}


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_a_source_in_use_survives_a_fork(make_clip, reader) -> None:
    source = open_source(make_clip(frames=60), SourceFacts(reader, 60, (48, 64), 25.0))
    expected = source.read([5, 2])[:, 12].mean(axis=(1, 2)).round().astype(int).tolist()
    _INHERITED[reader] = source
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        answers = pool.map_async(_read_and_forget, [reader] * 4, chunksize=1).get(timeout=30)
    assert answers == [expected] * 4
    assert source.read([5]).shape == (1, 48, 64, 3)  # and the parent's handle is still good


def _look_for_circles() -> bool:
    """In a forked child: what Python does by itself at any time."""
    gc.collect()
    return True


def test_what_a_caught_error_holds_is_not_freed_after_a_fork(make_clip) -> None:
    path = make_clip("clip.mkv", frames=60)
    source = PyAVSource(path, scan_facts(scan_video(path), "pyav"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] + bytes(len(content) - len(content) * 2 // 3))
    gc.collect()
    gc.disable()  # in the parent the circle stays until the fork
    try:
        with pytest.raises(VideoReadError, match="frame 50") as caught:
            source.read([50])
        caught.value.circle = caught
        del caught
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(_look_for_circles).get(timeout=30)
    finally:
        gc.enable()


_FORK_AMID_CIRCLES = """
import gc, os, pathlib, sys
# As do the hooks of logging and threading: whatever is made right after a fork may set off the search for circles.
os.register_at_fork(after_in_child=lambda: [[] for _ in range(100_000)])
from vos_umec.io.pyav import PyAVSource
from vos_umec.io.scan import scan_facts, scan_video
path = pathlib.Path(sys.argv[1])
source = PyAVSource(path, scan_facts(scan_video(path), "pyav"))
source.read([5])
gc.collect()
gc.disable()
circle = [source._cursor.get(None)]  # as the traceback of an error holds it
circle.append(circle)
source._cursor.drop()
del circle, source
gc.enable()
if os.fork() == 0:
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]), gc.get_freeze_count())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_nothing_is_freed_between_a_fork_and_the_childs_first_line(make_clip) -> None:
    command = [sys.executable, "-c", _FORK_AMID_CIRCLES, str(make_clip("clip.mkv", frames=60))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["0", "0"]  # and the parent looks for circles as before


def _free_a_maker() -> bool:
    """In a forked child: free what the parent has scaled with, as looking for circles may at any time."""
    _MAKERS.clear()
    gc.collect()
    return True


_MAKERS: list[PictureMaker] = []


def test_what_scales_has_no_threads_to_wait_for_after_a_fork() -> None:
    gc.collect()  # decoders of other tests have threads
    frame = av.VideoFrame(854, 480, "yuv420p")
    _MAKERS.append(PictureMaker())
    threads = threading.active_count(), len(list(Path("/proc/self/task").glob("*")))
    _MAKERS[0].make(frame, (256, 456))
    assert (threading.active_count(), len(list(Path("/proc/self/task").glob("*")))) == threads
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_free_a_maker).get(timeout=30)


def by_pyav(path: Path) -> PyAVSource:
    return PyAVSource(path, scan_facts(scan_video(path), "pyav"))


@pytest.mark.parametrize("reader", [by_pyav, open_source])
def test_a_source_let_go_is_closed_at_once(make_clip, reader) -> None:
    source = reader(make_clip(frames=20))
    source.read([9, 11], (24, 32))
    walker = source if isinstance(source, PyAVSource) else source._scaled
    place = weakref.ref(walker._cursor.get(lambda: pytest.fail("not open")))
    gc.disable()
    try:
        del source, walker
        assert place() is None
    finally:
        gc.enable()


class _Threads(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, item: int) -> int:
        return decoding_threads()


def test_loader_workers_decode_with_one_thread_each() -> None:
    assert torch.cat(list(DataLoader(_Threads(), num_workers=2, timeout=60))).tolist() == [1, 1]


class _Frames(Dataset):
    def __init__(self, sources: list[FrameSource]) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return 24

    def __getitem__(self, item: int) -> np.ndarray:
        return self.sources[item % 2].read([item])[0]


@pytest.mark.slow
def test_data_loader_workers_read_while_the_parent_reads(make_clip, numbers) -> None:
    path = make_clip(frames=30)
    sources = [open_source(path, SourceFacts(reader, 30, (48, 64), 25.0)) for reader in ("decord", "pyav")]
    for source in sources:
        source.read([9])
    loader = DataLoader(_Frames(sources), batch_size=6, num_workers=2, persistent_workers=True, timeout=60)
    for _ in range(2):
        shown = []
        for batch in loader:
            shown += numbers(batch.numpy())
            sources[0].read([1])
        assert shown == list(range(24))


def test_decord_opens_no_cuda_library() -> None:
    # One of them would take over the BLAS of faiss.
    code = (
        "import sys; from vos_umec.io.decord import import_decord; import_decord();"
        "assert 'nvidia' not in sys.modules or sys.modules['nvidia'];"
        "print([line for line in open('/proc/self/maps') if 'blas' in line and 'nvidia' in line])"
    )
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc here")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
