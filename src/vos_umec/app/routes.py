"""What the app answers to the browser's requests."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

import vos_umec
from vos_umec.app.downloads import DOWNLOADS, download_path, write_download
from vos_umec.app.events import Events
from vos_umec.app.follow import Model
from vos_umec.app.jobs import Jobs
from vos_umec.app.session import Session
from vos_umec.app.store import SessionStore
from vos_umec.app.uploads import MOST_BYTES, receive
from vos_umec.errors import ConfigError, DataError, MaskError
from vos_umec.io.endings import PICTURE_SUFFIXES

_SIDES = range(32, 2161)


class Routes:
    """Handlers of requests. What reads or writes files runs on other threads, so that all tabs stay quick.

    Args:
        store: The sessions.
        model: The model.
        jobs: What computes.
        events: What tells the tabs.
    """

    def __init__(self, store: SessionStore, model: Model, jobs: Jobs, events: Events) -> None:
        self._store = store
        self._model = model
        self._jobs = jobs
        self._events = events

    def table(self) -> list[web.RouteDef]:
        """All routes but those of the page's own files."""
        one = "/api/sessions/{session}"
        return [
            web.get("/api/about", self.about),
            web.get("/api/sessions", self.sessions),
            web.post("/api/sessions", self.open_path),
            web.post("/api/uploads", self.upload),
            web.get(one, self.session),
            web.delete(one, self.remove),
            web.get(f"{one}/events", self.events),
            web.get(f"{one}/thumbnail", self.thumbnail),
            web.get(one + r"/frames/{frame:\d{1,9}}", self.picture),
            web.get(one + r"/masks/{frame:\d{1,9}}", self.mask),
            web.put(one + r"/masks/{frame:\d{1,9}}", self.draw),
            web.post(f"{one}/objects", self.add_object),
            web.patch(one + r"/objects/{object:\d{1,3}}", self.change_object),
            web.delete(one + r"/objects/{object:\d{1,3}}", self.remove_object),
            web.post(f"{one}/speed", self.speed),
            web.post(f"{one}/follow", self.follow),
            web.post(f"{one}/stop", self.stop),
            web.post(f"{one}/downloads/{{kind}}", self.write_download),
            web.get(f"{one}/downloads/{{kind}}", self.download),
        ]

    async def about(self, request: web.Request) -> web.Response:
        """What is the same for all sessions."""
        return web.json_response(
            {
                "version": vos_umec.__version__,
                "model": self._model.name,
                "device": self._model.device.type,
                "short_side": self._model.short_side,
                "most_bytes": MOST_BYTES,
                "pictures": sorted(PICTURE_SUFFIXES),
            }
        )

    async def sessions(self, request: web.Request) -> web.Response:
        """The sessions that can be opened again."""
        return web.json_response(await asyncio.to_thread(self._store.listing))

    async def open_path(self, request: web.Request) -> web.Response:
        """Begin a session about a video of this machine."""
        path = _video((await _content(request)).get("path"))
        session = await asyncio.to_thread(self._store.create, path)
        return web.json_response({"id": session.id})

    async def upload(self, request: web.Request) -> web.Response:
        """Begin a session about a video, or pictures, that the browser sends."""
        if (request.content_length or 0) > MOST_BYTES:
            raise DataError(f"the upload is larger than {MOST_BYTES >> 30} GiB; open the video by its path")
        if not request.content_type.startswith("multipart/"):
            raise DataError("an upload is a form with files")
        with self._store.new_folder(request.query.get("name", "upload")) as folder:
            place = folder / "upload" / folder.name.rsplit("-", 1)[0]  # a folder of pictures names the session
            place.mkdir(parents=True)
            video = await receive(await request.multipart(), place)
            session = await asyncio.to_thread(self._store.begin, folder, video)
        return web.json_response({"id": session.id})

    async def session(self, request: web.Request) -> web.Response:
        """All that a tab shows of a session."""
        session = await self._session(request)
        return web.json_response(self._facts(session))

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a session."""
        name = request.match_info["session"]
        self._jobs.require_idle(name)
        await asyncio.to_thread(self._store.remove, name)
        self._events.tell(name, {"removed": True})
        return web.json_response({})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Tell a tab of each change, until it goes."""
        session = await self._session(request)
        return await self._events.stream(request, session.id)

    async def thumbnail(self, request: web.Request) -> web.FileResponse:
        """A small picture of a session, which need not be opened for it."""
        return web.FileResponse(self._store.thumbnail(request.match_info["session"]))

    async def picture(self, request: web.Request) -> web.Response:
        """A frame as JPEG."""
        session, frame = await self._session(request), _frame(request)
        session.require_frame(frame)
        body = await asyncio.to_thread(session.picture, frame)
        return web.Response(body=body, content_type="image/jpeg")

    async def mask(self, request: web.Request) -> web.Response:
        """The ids of a frame's mask, a byte a pixel in rows. PNG would pass through the browser's colors."""
        session, frame = await self._session(request), _frame(request)
        session.require_frame(frame)
        packed = await asyncio.to_thread(lambda: zlib.compress(session.mask(frame).tobytes(), 1))
        headers = {"Content-Encoding": "deflate"}
        return web.Response(body=packed, content_type="application/octet-stream", headers=headers)

    async def draw(self, request: web.Request) -> web.Response:
        """Keep a mask that a tab drew, in the same form; the query names the objects that were drawn."""
        session, frame = await self._session(request, idle=True), _frame(request)
        body = await request.read()
        H, W = session.source.size
        if len(body) != H * W:
            raise MaskError(f"a mask of {len(body)} bytes for a video of {H} x {W} pixels")
        drawn = [_number(text) for text in request.query.get("drawn", "").split(",") if text]
        ids = np.frombuffer(body, np.uint8).reshape(H, W)
        await asyncio.to_thread(session.draw, frame, ids, drawn)
        self._events.tell(
            session.id, {"session": self._facts(session), "drawn": frame, "by": request.query.get("tab")}
        )
        return web.json_response({})

    async def add_object(self, request: web.Request) -> web.Response:
        """Add an object."""
        session = await self._session(request)
        added = await asyncio.to_thread(session.add_object)
        self._tell_all(session)
        return web.json_response({"id": added.id})

    async def change_object(self, request: web.Request) -> web.Response:
        """Give an object another name, color or lock."""
        changes = await _content(request)
        session = await self._session(request, idle="locked" in changes)
        await asyncio.to_thread(session.change_object, int(request.match_info["object"]), changes)
        self._tell_all(session)
        return web.json_response({})

    async def remove_object(self, request: web.Request) -> web.Response:
        """Remove an object from all masks."""
        session = await self._session(request, idle=True)
        await asyncio.to_thread(session.remove_object, int(request.match_info["object"]))
        self._events.tell(session.id, {"session": self._facts(session), "masks": True})
        return web.json_response({})

    async def speed(self, request: web.Request) -> web.Response:
        """Choose the short side, and measure how long a frame takes."""
        session = await self._session(request, idle=True)
        side = (await _content(request)).get("short_side")
        if side is not None and (not isinstance(side, int) or side not in _SIDES):
            raise ConfigError(f"a short side is {_SIDES[0]} to {_SIDES[-1]} pixels; found {side!r}")
        if side != session.short_side:
            session.short_side = side
            await asyncio.to_thread(session.save)
            self._tell_all(session)
        seconds = await asyncio.wrap_future(self._jobs.speed(session))
        return web.json_response({"seconds": seconds, "short_side": side or self._model.short_side})

    async def follow(self, request: web.Request) -> web.Response:
        """Begin a run."""
        session, asked = await self._session(request), await _content(request)
        frame, backward = asked.get("frame"), asked.get("backward")
        if not isinstance(frame, int) or not isinstance(backward, bool):
            raise ConfigError("a run has a frame, and is backward or not")
        self._jobs.start(session, frame, backward)
        return web.json_response({})

    async def stop(self, request: web.Request) -> web.Response:
        """End a run."""
        self._jobs.stop(await self._session(request))
        return web.json_response({})

    async def write_download(self, request: web.Request) -> web.Response:
        """Write what is to be downloaded, so that an error can be told."""
        session, kind = await self._session(request), request.match_info["kind"]
        path = await asyncio.to_thread(write_download, session, kind)
        return web.json_response({"name": path.name, "masks": len(session.done), "frames": len(session.source)})

    async def download(self, request: web.Request) -> web.StreamResponse:
        """A file that was written."""
        path = download_path(await self._session(request), request.match_info["kind"])
        if not path.is_file():
            raise DataError(f"write it first; the downloads are {', '.join(DOWNLOADS)}")
        return web.FileResponse(path)

    async def _session(self, request: web.Request, idle: bool = False) -> Session:
        session = await asyncio.to_thread(self._store.get, request.match_info["session"])
        if idle:
            self._jobs.require_idle(session.id)
        return session

    def _facts(self, session: Session) -> dict[str, Any]:
        return session.facts() | {"run": self._jobs.run_of(session)}

    def _tell_all(self, session: Session) -> None:
        self._events.tell(session.id, {"session": self._facts(session)})


async def _content(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request."""
    if request.content_type != "application/json":  # a form of another site cannot have this type
        raise ConfigError("expected JSON")
    try:
        content = await request.json()
    except ValueError as error:
        raise ConfigError(f"this is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError("expected a JSON object")
    return content


def _frame(request: web.Request) -> int:
    return int(request.match_info["frame"])


def _number(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"an object is a number; found {text[:20]!r}")
    return int(text)


def _video(text: Any) -> Path:
    """The video that a typed path names; quotes around it, as file managers copy them, are dropped."""
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("give the path of a video file or of a folder of frames")
    return Path(text.strip().strip("'\"").removeprefix("file://")).expanduser()
