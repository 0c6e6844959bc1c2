"""What keeps the page to its own server: neither the server nor a browser asks another one for anything.

gradio fetches addresses that are named in place of a file; they are refused before it sees them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from unified.server.errors import ApiError

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "worker-src 'self' blob:; connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
FETCHES = re.compile(r"/(file|proxy)=\s*[a-z][a-z0-9+.-]*:", re.IGNORECASE)
ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Closed:
    """Refuses addresses in place of files, and adds headers that keep the page to this server."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if FETCHES.search(scope["path"]):
            await _refused(scope, receive, send)
            return
        if scope["method"] == "POST" and not _is_form(scope):
            body = await _body(receive)
            if _names_address(body):
                await _refused(scope, receive, send)
                return
            receive = _again(body, receive)

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await self.app(scope, receive, answer)


async def _refused(scope: Any, receive: Any, send: Any) -> None:
    error = ApiError(400, "files are uploaded: nothing is fetched from an address")
    await error.response()(scope, receive, send)


def _is_form(scope: Any) -> bool:
    """Whether the body is a form with files; every other is read as JSON, whatever it is called."""
    kinds = [value.strip().lower() for key, value in scope["headers"] if key == b"content-type"]
    return len(kinds) == 1 and kinds[0].startswith(b"multipart/form-data")


async def _body(receive: Callable[[], Any]) -> bytes:
    """All of a request's body; its size is limited by the guard."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Callable[[], Any]) -> Callable[[], Any]:
    """A body that was read, to be read once more."""
    sent = False

    async def once() -> Any:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


def _names_address(body: bytes) -> bool:
    """Whether a file in a JSON body has an address in place of its path."""
    try:
        places = [json.loads(body)]
    except (ValueError, RecursionError):
        return False  # refused further in
    for place in places:
        inner = place.values() if isinstance(place, dict) else place if isinstance(place, list) else ()
        places += inner
        if isinstance(place, dict) and isinstance(place.get("path"), str) and ADDRESS.match(place["path"]):
            return True
    return False
