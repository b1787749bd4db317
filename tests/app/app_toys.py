"""A clip of two moving squares, and the app served on a thread of the test."""

import asyncio
import http.client
import json
from contextlib import contextmanager
from threading import Event, Thread

import numpy as np
import torch
from PIL import Image

from vos_umec.app.follow import Model
from vos_umec.app.server import AppServer
from vos_umec.app.store import SessionStore
from vos_umec.io.video_writer import VideoWriter

SIZE = (64, 96)


def pictures(frames=8):
    """A red square that moves right and a blue one that moves left, on grey."""
    rng = np.random.default_rng(0)
    back = np.full((*SIZE, 3), 90, np.uint8) + rng.integers(0, 20, (*SIZE, 1), dtype=np.uint8)
    for t in range(frames):
        frame = back.copy()
        frame[8:28, 8 + 3 * t : 28 + 3 * t] = (220, 40, 40)
        frame[36:56, 66 - 3 * t : 86 - 3 * t] = (40, 60, 220)
        yield frame


def write_clip(path, frames=8):
    """They as a video file."""
    with VideoWriter(path, 12) as writer:
        for frame in pictures(frames):
            writer.write(frame)
    return path


def write_frames(folder, frames=8):
    """They as a folder, which no other process has to look into first."""
    folder.mkdir()
    for index, frame in enumerate(pictures(frames)):
        Image.fromarray(frame).save(folder / f"{index:05d}.png")
    return folder


def model(checkpoint=None, **settings):
    """A model that is quick: few references, searched nearby."""
    quick = {"rounds": 0, "short_side": 64, "references": 3, "readout": {"radius": 6, "permanent_radius": 8}}
    return Model(checkpoint, torch.device("cpu"), quick | settings)


@contextmanager
def served(root, checkpoint=None, **settings):
    """An `AppServer` that answers while the block runs."""
    ready, end, box = Event(), None, {}

    async def serve():
        nonlocal end
        end = asyncio.Event()
        async with AppServer(SessionStore(root), model(checkpoint, **settings)) as server:
            box.update(server=server, loop=asyncio.get_running_loop())
            ready.set()
            await end.wait()

    thread = Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield box["server"]
    finally:
        box["loop"].call_soon_threadsafe(end.set)
        thread.join(60)
        assert not thread.is_alive()


class Client:
    """A browser's requests, without the browser."""

    def __init__(self, server):
        self.guard = server.guard
        self.cookie = f"vos_umec_{self.guard.port}={self.guard.token}"

    def raw(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.guard.port, timeout=60)
        connection.request(method, path, body, {"Cookie": self.cookie, **headers})
        answer = connection.getresponse()
        found = answer.status, dict(answer.headers), answer.read()
        connection.close()
        return found

    def ask(self, method, path, content=None, status=200):
        body, headers = None, {}
        if isinstance(content, bytes):
            body = content
        elif content is not None:
            body, headers = json.dumps(content), {"Content-Type": "application/json"}
        found, kinds, answer = self.raw(method, path, body, **headers)
        assert found == status, answer
        return json.loads(answer) if "json" in kinds["Content-Type"] else answer
