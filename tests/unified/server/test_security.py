"""What the server refuses: wrong keys, other pages and hosts, large and damaged uploads, paths, addresses."""

import base64
import io
import logging
import os
import random
import struct
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image

from unified.server.guard import LOCAL, Access
from unified.server.keys import Keys, is_loopback
from unified.server.limits import Limits, RequestLimits
from unified.server.uploads import data_url

sys.path.insert(0, str(Path(__file__).parents[2]))
from spoilt_bodies import mutated

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
KEY = "a-key-of-enough-letters"
CHAT = "/v1/chat/completions"


def asked(url, words="What is this?", **more):
    content = [{"type": "text", "text": words}, {"type": "image_url", "image_url": {"url": url}}]
    message = {"role": "user", "content": content}
    return {"model": "unified", "messages": [message], "max_tokens": 1, "modalities": ["text"], **more}


def png_of(width, height):
    """A picture of one colour: small as a file, whatever its size."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def url_of(held, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(held).decode()}"


@pytest.fixture(scope="module")
def locked(serve):
    keys = Keys([KEY, "another-key-of-enough"])
    access = Access(keys=keys, origins=["https://mine.example"], bytes=300_000)
    request = RequestLimits(pixels=10_000, bytes=300_000, tokens=4, images=1)
    return serve(access=access, limits=Limits(request=request))


@pytest.fixture(scope="module")
def http(locked):
    with locked.http(headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


def test_a_key_is_asked_for_everywhere_but_for_health(locked):
    for key in ("x", "wrong-key-of-enough-letters", KEY[:-1], KEY + "x", "клавиша"):
        headers = {"authorization": f"Bearer {key}".encode()}
        with locked.http(headers=headers) as client:
            assert client.get("/health").json() == {"status": "ok"}
            for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
                assert client.get(path).status_code == 401, path
            assert client.post(CHAT, json=asked(data_url(PICTURE))).status_code == 401
    with pytest.raises(openai.AuthenticationError) as refused:
        locked.client(key="wrong-key-of-enough-letters").models.list()
    assert refused.value.code == "invalid_api_key"
    assert len(list(locked.client(key=KEY).models.list())) == 1


def test_keys_are_read_from_the_environment_or_a_file(monkeypatch, tmp_path):
    monkeypatch.delenv("UNIFIED_API_KEY", raising=False)
    assert not Keys.read()
    monkeypatch.setenv("UNIFIED_API_KEY", KEY)
    assert Keys.read().client(f"Bearer {KEY}", "") == "key 0"
    file = tmp_path / "keys"
    file.write_text(f"# keys\n\n{KEY}\nsecond-key-of-enough\n")
    keys = Keys.read(file)
    assert keys.client("Bearer second-key-of-enough", "") == "key 1"
    assert keys.client("Basic second-key-of-enough", "") is None
    file.write_text("# nothing\n")
    with pytest.raises(ValueError, match="no API key"):
        Keys.read(file)
    with pytest.raises(ValueError, match="at least 16"):
        Keys(["short"])


def test_loopback_is_known():
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_pages_and_other_names_are_refused(http, serve):
    page = {"origin": "https://evil.example"}
    assert http.get("/v1/models", headers=page).status_code == 403
    allowed = http.get("/v1/models", headers={"origin": "https://mine.example"})
    assert allowed.status_code == 200
    closed = http.options(CHAT, headers={**page, "access-control-request-method": "POST"})
    assert closed.status_code == 403
    assert not [name for name in closed.headers if name.startswith("access-control")]
    local = serve(access=Access(hosts=LOCAL))
    with local.http() as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get("/v1/models", headers={"host": "evil.example"}).status_code == 403


def test_large_bodies_are_refused_before_they_are_read(http):
    body = b'{"model": "unified", "x": "' + b"x" * 400_000 + b'"}'
    kind = {"content-type": "application/json"}
    assert http.post(CHAT, content=body, headers=kind).status_code == 413
    pieces = (body[n : n + 1000] for n in range(0, len(body), 1000))  # without a length
    assert http.post(CHAT, content=pieces, headers=kind).status_code == 413
    form = {"image": ("x.png", b"x" * 400_000, "image/png")}
    assert http.post("/v1/images/edits", data={"prompt": "x"}, files=form).status_code == 413


@pytest.mark.parametrize(("side", "kind"), [(101, "png"), (6000, "svg+xml"), (100_000, "jpeg")])
def test_pictures_of_many_pixels_are_refused_before_they_are_decoded(http, side, kind):
    bomb = bytearray(png_of(1, 1))
    bomb[16:24] = struct.pack(">II", side, side)  # the size that the header says
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    answer = http.post(CHAT, json=asked(url_of(bytes(bomb), kind)))
    assert answer.status_code == 400
    assert "pixels" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "messages.0.content.1.image_url"


def test_formats_are_known_by_content_and_svg_is_refused(http):
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "WEBP")
    assert http.post(CHAT, json=asked(url_of(file.getvalue(), "png"))).status_code == 200
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>'
    for kind in ("svg+xml", "png"):
        answer = http.post(CHAT, json=asked(url_of(svg, kind)))
        assert answer.status_code == 400
        assert "SVG" in answer.json()["error"]["message"]
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "TIFF")
    assert http.post(CHAT, json=asked(url_of(file.getvalue()))).status_code == 400
    assert http.post(CHAT, json=asked(url_of(data_png()[:200]))).status_code == 400


def data_png():
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "PNG")
    return file.getvalue()


class Trap(BaseHTTPRequestHandler):
    fetched: list = []  # noqa: RUF012

    def do_GET(self):
        self.fetched.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_no_address_is_fetched_and_no_file_is_opened(http, tmp_path):
    trap = HTTPServer(("127.0.0.1", 0), Trap)
    threading.Thread(target=trap.serve_forever, daemon=True).start()
    picture = tmp_path / "picture.png"
    picture.write_bytes(data_png())
    before = os.stat(picture).st_atime_ns
    places = [
        f"http://127.0.0.1:{trap.server_port}/x.png", str(picture), f"file://{picture}", picture.as_uri(),
        "https://example.org/x.png", "ftp://example.org/x", "data:text/html;base64,PGI+", "data:,x", "", "\0",
    ]  # fmt: skip
    for place in places:
        answer = http.post(CHAT, json=asked(place))
        assert answer.status_code == 400, place
        assert "data URL" in answer.json()["error"]["message"]
    trap.shutdown()
    assert not Trap.fetched
    assert os.stat(picture).st_atime_ns == before


def test_the_log_has_ids_and_no_contents(http, caplog):
    with caplog.at_level(logging.DEBUG, logger="unified.server"):
        answer = http.post(CHAT, json=asked(data_url(PICTURE), "my secret words"))
        http.post(CHAT, json=asked("/secret/path"))
        http.get("/v1/models/secret-name?secret=1")
    lines = [record.getMessage() for record in caplog.records]
    assert any(answer.headers["x-request-id"] in line and " 200 " in line for line in lines)
    assert "secret" not in "".join(lines)
    assert KEY not in "".join(lines)


def test_malformed_bodies_are_refused_and_never_break_the_server(http, caplog):
    rng = random.Random(0)
    small = url_of(png_of(8, 8))
    bodies = {
        CHAT: asked(
            small, temperature=1.0, top_p=0.9, seed=1, stop=["x"], n=1, logprobs=True, top_logprobs=2
        ),
        "/v1/images/generations": {"prompt": "x", "n": 1, "size": "1x1", "seed": 1, "guidance": 1.0},
    }
    statuses = []
    for number in range(250):
        path = rng.choice(list(bodies))
        kind = (
            "application/json"
            if number % 10
            else rng.choice(["text/plain", "multipart/form-data; boundary=x"])
        )
        answer = http.post(path, content=mutated(rng, bodies[path]), headers={"content-type": kind})
        statuses.append(answer.status_code)
        assert answer.status_code < 500, (path, answer.text)
        if answer.status_code != 200:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            assert "Traceback" not in answer.text
    assert statuses.count(400) > 120
    assert http.post(CHAT, json=asked(small)).status_code == 200


def test_malformed_forms_are_refused(http):
    rng = random.Random(1)
    request = http.build_request(
        "POST", "/v1/images/edits", data={"prompt": "x", "n": "1"}, files={"image": ("x.png", data_png())}
    )
    held, kind = request.read(), request.headers["content-type"]
    for _ in range(40):
        spoilt = bytearray(held)
        for _ in range(rng.randrange(1, 8)):
            spoilt[rng.randrange(200 if rng.random() < 0.5 else len(spoilt))] = rng.randrange(256)
        spoilt = spoilt[: rng.randrange(len(spoilt))] if rng.random() < 0.3 else spoilt
        answer = http.post("/v1/images/edits", content=bytes(spoilt), headers={"content-type": kind})
        assert answer.status_code < 500, answer.text
    for data, files in [
        ({}, {"image": ("x.png", data_png())}),
        ({"prompt": "x"}, {"mask": ("x.png", data_png())}),
        ({"prompt": "x"}, {"image": ("x.png", data_png()), "mask": ("x.png", data_png())}),
        ({"prompt": "x", "image": "no file"}, {"other": ("x.png", data_png())}),
        ({"prompt": "x", "n": "many"}, {"image": ("x.png", data_png())}),
    ]:
        assert http.post("/v1/images/edits", data=data, files=files).status_code == 400
