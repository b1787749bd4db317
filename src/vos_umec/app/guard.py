"""Who may speak to the app: the browser of the person who started it, and no other site in that browser.

Any web page may send requests to 127.0.0.1, and one whose own name is made to point there (DNS rebinding) may even
read the answers. A shared machine has other users, who reach the same address.
"""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

HEADERS = {
    # What the page loads comes from here alone: no other host learns of it.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_STRANGER = (
    "This app belongs to the person who started it. Open the whole address that `vos-umec app` printed, which ends "
    "in a token."
)


class Guard:
    """Checks each request before anything else sees it.

    Attributes:
        token: The secret of this run. The address that the command prints has it; a cookie keeps it.
        port: The port that the app is served on.
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        self.port = 0

    @property
    def address(self) -> str:
        """Where a browser opens the app."""
        return f"http://127.0.0.1:{self.port}"

    def refusal(self, request: web.Request) -> str | None:
        """Why a request is refused; None if it may pass."""
        hosts = {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}
        if request.headers.get("Host") not in hosts:
            return f"The host is not one of this app; open {self.address}"
        origin = request.headers.get("Origin")
        if origin is not None and (urlsplit(origin).scheme != "http" or urlsplit(origin).netloc not in hosts):
            return "Another site may not use this app."
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        opened = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
        if site not in ("same-origin", "none") and not opened:
            return "Another site may not use this app."
        if not hmac.compare_digest(self._given(request).encode(), self.token.encode()):
            return _STRANGER
        return None

    def middleware(self) -> Middleware:
        """The check for aiohttp."""

        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            reason = self.refusal(request)
            if reason is not None:
                return web.Response(status=403, text=reason)
            if "token" in request.query:  # from here on the cookie has it, and the address bar does not
                answer = web.Response(status=303, headers={"Location": request.path})
                answer.set_cookie(self._cookie, self.token, httponly=True, samesite="Lax", path="/")
                return answer
            return await handler(request)

        return web.middleware(check)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Headers of every answer, for aiohttp's signal."""
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")

    @property
    def _cookie(self) -> str:
        return f"vos_umec_{self.port}"  # cookies do not tell ports apart

    def _given(self, request: web.Request) -> str:
        return request.query.get("token") or request.cookies.get(self._cookie, "")
