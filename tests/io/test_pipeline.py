import threading
import time

import numpy as np
import pytest

from vos_umec.errors import ConfigError, VideoReadError
from vos_umec.io.pipeline import WriteBehind, read_ahead


class Source:
    def __init__(self, frames, broken=None):
        self.frames, self.broken, self.reads = frames, broken, []

    def __len__(self):
        return self.frames

    def read(self, indices, size=None):
        self.reads.append((list(indices), threading.current_thread()))
        if self.broken in indices:
            raise VideoReadError("clip", f"frame {self.broken} cannot be decoded")
        return np.array(indices, np.uint8)[:, None, None, None]


@pytest.mark.parametrize(("frames", "batch"), [(0, 3), (1, 3), (3, 3), (7, 3), (4, 1)])
def test_every_frame_comes_once_in_order_from_another_thread(frames, batch):
    source = Source(frames)
    got = [(index, frame.item()) for index, frame in read_ahead(source, batch)]
    assert got == [(t, t) for t in range(frames)]
    assert all(len(indices) <= batch for indices, _ in source.reads)
    assert all(thread is not threading.current_thread() for _, thread in source.reads)


def test_no_more_than_one_batch_is_read_ahead_and_leaving_ends_it():
    source = Source(100)
    frames = read_ahead(source, batch=2)
    next(frames), next(frames)
    time.sleep(0.05)
    assert [indices for indices, _ in source.reads] == [[0, 1], [2, 3]]
    frames.close()
    time.sleep(0.05)
    assert len(source.reads) == 2


def test_a_broken_frame_raises_at_the_start_of_its_batch():
    frames = read_ahead(Source(6, broken=3), batch=2)
    assert [next(frames)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(VideoReadError, match="frame 3"):
        next(frames)


def test_calls_are_done_in_order_and_few_wait():
    done, free = [], threading.Event()
    with WriteBehind(waiting=2) as writer:
        writer.put(free.wait)
        writer.put(done.append, 0)
        threading.Timer(0.05, free.set).start()
        start = time.perf_counter()
        writer.put(done.append, 1)  # two calls wait already
        assert time.perf_counter() - start > 0.02
    assert done == [0, 1]


def fail():
    raise OSError("no space left")


def write(calls, waiting=8):
    with WriteBehind(waiting) as writer:
        for call in calls:
            writer.put(*call)
        time.sleep(0.05)


@pytest.mark.parametrize("waiting", [1, 8])
def test_the_error_of_a_call_comes_out_and_nothing_after_it_is_done(waiting):
    done = []
    with pytest.raises(OSError, match="no space left"):
        write([(fail,), (done.append, 1), (done.append, 2)], waiting)
    assert done == []


def test_an_error_in_the_block_is_not_hidden():
    def broken():
        yield (fail,)
        raise KeyError

    with pytest.raises(KeyError):
        write(broken())


def test_wrong_bounds_are_refused():
    with pytest.raises(ConfigError, match="batch is 0"):
        next(read_ahead(Source(3), batch=0))


def test_frames_come_in_the_order_that_is_asked_for():
    assert [index for index, _ in read_ahead(Source(9), 2, range(6, 1, -2))] == [6, 4, 2]


def test_a_source_that_stalls_is_told_of(monkeypatch):
    monkeypatch.setattr("vos_umec.io.pipeline._LAST_CALL", 0.01)
    free = threading.Event()

    class Stalled(Source):
        path = "clip"

        def read(self, indices, size=None):
            if 2 in indices:
                free.wait()
            return super().read(indices, size)

    frames = read_ahead(Stalled(4, None), 2, patience=0.05)
    assert [next(frames)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(VideoReadError, match=r"clip: frame 2 did not come within 0\.05 seconds"):
        next(frames)
    free.set()
