"""The app as a program that serves 127.0.0.1."""

from __future__ import annotations

import asyncio
import logging
import webbrowser
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from vos_umec.app.events import Events
from vos_umec.app.follow import Model
from vos_umec.app.guard import Guard
from vos_umec.app.jobs import Jobs
from vos_umec.app.routes import Routes
from vos_umec.app.store import SessionStore
from vos_umec.errors import ConfigError, VosUmecError

log = logging.getLogger(__name__)

_STATIC = Path(__file__).with_name("static")
_MOST_MASK = 2**26  # bytes of a mask that the browser sends


class AppServer:
    """The whole app: `async with AppServer(...) as server` serves it until the block ends.

    Args:
        store: The sessions.
        model: The model.
        port: The port on 127.0.0.1; 0 for any free one.

    Attributes:
        guard: Knows the address and the token.
    """

    def __init__(self, store: SessionStore, model: Model, port: int = 0) -> None:
        self.guard = Guard()
        self._store = store
        self._port = port
        self._events = Events()
        self._jobs = Jobs(model, self._events.tell)
        app = web.Application(middlewares=[self.guard.middleware(), _errors], client_max_size=_MOST_MASK)
        app.add_routes(Routes(store, model, self._jobs, self._events).table())
        app.add_routes([web.get("/", _page), web.get("/s/{session}", _page), web.static("/static", _STATIC)])
        app.on_response_prepare.append(self.guard.add_headers)
        app.on_shutdown.append(self._shut_down)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)

    async def __aenter__(self) -> AppServer:
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, "127.0.0.1", self._port)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"port {self._port} of this machine cannot be used ({error.strerror}); is another vos-umec app "
                "open? Give another --port, or 0 for any free one"
            ) from error
        self.guard.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await asyncio.to_thread(self._jobs.close)
        self._store.close()

    def address(self, session: str | None = None) -> str:
        """What the user opens: a session or, without one, the list of them."""
        path = "/" if session is None else f"/s/{session}"
        return f"{self.guard.address}{path}?token={self.guard.token}"

    async def _shut_down(self, app: web.Application) -> None:
        await self._events.close()


async def serve(server: AppServer, session: str | None, open_browser: bool) -> None:
    """Serve until the task is cancelled, as Ctrl+C does."""
    async with server:
        address = server.address(session)
        print(f"open {address}\nCtrl+C ends the app; what you did is saved", flush=True)
        if open_browser:
            await asyncio.to_thread(webbrowser.open, address)
        await asyncio.Event().wait()


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors that a user can mend, as one line for the page."""
    try:
        return await handler(request)
    except VosUmecError as error:
        return web.json_response({"error": str(error)}, status=400)
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        return web.json_response({"error": f"{error}; is the disk full?"}, status=500)


async def _page(request: web.Request) -> web.FileResponse:
    return web.FileResponse(_STATIC / "index.html")
