"""What comes from an address, and what a browser may send a key by."""

import asyncio
import base64
import json

import pytest

pytest.importorskip("fastapi", reason="the server's packages are not installed")

from unified.server.guard import LOCAL, Access, Guard
from unified.server.keys import Keys, as_bearer
from unified.web.closed import POLICY, Closed

KEY = "a-key-of-enough-letters"


def asked(app, path, *, method="GET", body=b"", headers=None, client=("127.0.0.1", 1)):
    """(status, headers) of what an application answers."""
    found = []
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {
        "type": "http", "path": path, "method": method, "headers": pairs, "client": client,
        "query_string": b"",
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        found.append(message)

    asyncio.run(app(scope, receive, send))
    return found[0]["status"], {name.decode().lower(): value.decode() for name, value in found[0]["headers"]}


async def echo(scope, receive, send):
    """Answers 200 after reading the body."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=http://169.254.169.254/x", "/gradio_api/proxy=https://a.example/", "/file= ftp:x"],
)
def test_no_address_is_fetched_by_its_path(path):
    assert asked(Closed(echo), path)[0] == 400


@pytest.mark.parametrize("path", ["http://127.0.0.1:1/x", " HTTPS://example.org/x", "file:///etc/passwd"])
def test_no_address_is_fetched_in_place_of_a_file(path):
    body = json.dumps({"data": [[{"path": path, "meta": {"_type": "gradio.FileData"}}]]}).encode()
    sent = {"headers": {"content-type": "application/json"}, "method": "POST", "body": body}
    for kind in (
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/x+json",
        "",
        "text/plain",
    ):
        named = {**sent, "headers": {"content-type": kind} if kind else {}}
        assert asked(Closed(echo), "/gradio_api/queue/join", **named)[0] == 400
    own = json.dumps({"data": [{"path": "/tmp/gradio/1/x.png", "url": "http://127.0.0.1/x"}]}).encode()
    assert asked(Closed(echo), "/gradio_api/queue/join", **{**sent, "body": own})[0] == 200
    for broken in (b"[" * 100_000, b"{", b"\xff"):
        assert asked(Closed(echo), "/gradio_api/queue/join", **{**sent, "body": broken})[0] == 200


def test_a_browser_is_told_to_ask_no_other_host():
    headers = asked(Closed(echo), "/")[1]
    assert headers["content-security-policy"] == POLICY
    assert "http" not in POLICY
    assert "*" not in POLICY


def guarded(**options):
    return Guard(echo, Access(**options), lambda *seen: None)


def test_a_page_of_the_servers_own_may_send_requests_and_no_other():
    own = {"host": "localhost:8000", "origin": "http://localhost:8000"}
    assert asked(guarded(page=True, hosts=LOCAL), "/", headers=own)[0] == 200
    assert asked(guarded(hosts=LOCAL), "/", headers=own)[0] == 403
    for origin in ("http://evil.example", "null", "http://localhost:8001", "https://localhost:8000.evil"):
        assert asked(guarded(page=True, hosts=LOCAL), "/", headers={**own, "origin": origin})[0] == 403
    rebound = {"host": "evil.example:8000", "origin": "http://evil.example:8000"}
    assert asked(guarded(page=True, hosts=LOCAL), "/", headers=rebound)[0] == 403


def test_a_key_may_be_the_password_of_basic_authentication_where_there_is_a_page():
    keys = Keys([KEY])
    basic = {"authorization": "Basic " + base64.b64encode(f"anyone:{KEY}".encode()).decode()}
    wrong = {"authorization": "Basic " + base64.b64encode(b"anyone:not-the-key-at-all").decode()}
    assert asked(guarded(keys=keys, page=True), "/", headers=basic)[0] == 200
    assert asked(guarded(keys=keys), "/", headers=basic)[0] == 401
    status, headers = asked(guarded(keys=keys, page=True), "/", headers=wrong)
    assert status == 401
    assert headers["www-authenticate"].startswith("Basic ")
    for sent in ("Basic", "Basic !", "Basic " + base64.b64encode(b"\xff\xfe").decode(), "Basic Og=="):
        assert asked(guarded(keys=keys, page=True), "/", headers={"authorization": sent})[0] == 401
    assert as_bearer(f"Bearer {KEY}") == f"Bearer {KEY}"
