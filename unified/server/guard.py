"""What every request passes: its id, who sent it, how long it may be, and a line in the log without contents.

A request that names an origin comes from a page in a browser; all are refused unless allowed, since a page
may otherwise use a server on the reader's own machine. So is a host that is not the server's own, where it
listens on loopback without keys (DNS rebinding).
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from unified.server.errors import ApiError
from unified.server.keys import Keys, as_bearer
from unified.server.scheduler import place_of

log = logging.getLogger("unified.server")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PORT = re.compile(r":\d*$", re.ASCII)
OPEN = ("/health",)  # asked by whoever restarts the server
QUIET = ("/gradio_api/", "/assets/", "/static/")  # of the page: dozens for every click
LOCAL = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, kw_only=True)
class Access:
    """`keys` that are asked for; `origins` of pages that may send requests; `hosts` by which the server may
    be called, any where empty; `bytes` of a body, at most. `page`: the server has a page of its own, so its
    own origin is allowed, and a browser may send a key as the password of HTTP's basic authentication."""

    keys: Keys = field(default_factory=Keys)
    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()
    bytes: int = 2**24
    page: bool = False


class Guard:
    """The outermost layer of the application. `seen(path, status, seconds)`: for the metrics."""

    def __init__(self, app: Any, access: Access, seen: Callable[[str, int, float], None]) -> None:
        self.app, self.access, self.seen = app, access, seen

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        began, number = time.monotonic(), uuid.uuid4().hex
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", number.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            scope.setdefault("state", {})["client"] = self._client(scope)
            await self.app(scope, self._counted(scope, receive), answer)
        except ApiError as error:
            await _refuse(error, scope, receive, answer)
        except Exception as error:
            log.error("%s: %s at %s", number, type(error).__name__, place_of(error))
            if not status:
                await _refuse(ApiError(500, "the server failed on this request"), scope, receive, answer)
        seconds = time.monotonic() - began
        route = getattr(scope.get("route"), "path", "other")
        self.seen(route, status, seconds)
        level = logging.DEBUG if route.startswith(QUIET) else logging.INFO
        log.log(level, "%s %s %s %d %.3fs", number, scope.get("method", "WS"), route, status, seconds)

    def _client(self, scope: Message) -> str:
        """The name of who asks. `ApiError` for one that is refused."""
        headers, access = Headers(scope=scope), self.access
        if access.hosts and PORT.sub("", headers.get("host", "")).lower() not in access.hosts:
            raise ApiError(403, "this server is not called by this name", code="host_not_allowed")
        if (origin := headers.get("origin")) is not None and not self._allowed(origin, headers):
            raise ApiError(403, "pages of this origin may not use this server", code="origin_not_allowed")
        address = (scope.get("client") or ("?",))[0]
        sent = headers.get("authorization", "")
        client = access.keys.client(as_bearer(sent) if access.page else sent, address)
        if client is None and scope["path"] not in OPEN:
            asks = {"www-authenticate": 'Basic realm="unified", charset="UTF-8"'} if access.page else None
            message = "the API key is missing or wrong"
            raise ApiError(401, message, code="invalid_api_key", headers=asks)
        return client or f"address {address}"

    def _allowed(self, origin: str, headers: Headers) -> bool:
        """Whether pages of an origin may send requests: a page of this server has its host."""
        own = self.access.page and origin.split("://", 1)[-1] == headers.get("host")
        return own or origin in self.access.origins

    def _counted(self, scope: Message, receive: Receive) -> Receive:
        """The body as it comes; 413 as soon as there is too much of it."""
        most, count = self.access.bytes, 0
        too_large = f"the request has more than {most} bytes"
        given = Headers(scope=scope).get("content-length", "")
        if scope["type"] == "http" and given.isdecimal() and int(given[:20]) > most:
            raise ApiError(413, too_large)

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            if count > most:
                raise HTTPException(413, too_large)
            return message

        return counted


async def _refuse(error: ApiError, scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await error.response()(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
