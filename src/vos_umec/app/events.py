"""What happens to a session, told to all tabs that show it."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any

from aiohttp import web

_MOST = 1000  # messages that a tab which does not read them may owe; then it is let go, and connects again
_BEAT = 15.0  # seconds; a connection that is gone is noticed by writing


class Events:
    """Server-sent events, by session."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tabs: dict[str, set[asyncio.Queue[str | None]]] = defaultdict(set)

    def tell(self, session: str, message: dict[str, Any]) -> None:
        """Tell the tabs of a session; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, session, json.dumps(message))

    async def stream(self, request: web.Request, session: str) -> web.StreamResponse:
        """Serve one tab, until it goes."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue(_MOST)
        self._tabs[session].add(queue)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await response.prepare(request)
            await response.write(b": hello\n\n")
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), _BEAT)
                except TimeoutError:
                    await response.write(b": still here\n\n")
                    continue
                if text is None:
                    break
                await response.write(f"data: {text}\n\n".encode())
        except ConnectionError:
            pass
        finally:
            self._tabs[session].discard(queue)
        return response

    async def close(self) -> None:
        """Let all tabs go, so that the server can end."""
        for queues in self._tabs.values():
            for queue in queues:
                _end(queue)

    def _put(self, session: str, text: str) -> None:
        for queue in self._tabs[session]:
            if queue.full():
                _end(queue)
            else:
                queue.put_nowait(text)


def _end(queue: asyncio.Queue[str | None]) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
