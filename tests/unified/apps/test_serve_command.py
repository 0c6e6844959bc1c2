"""`unified serve` as a user types it."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the server's packages are not installed")
import httpx

from unified.apps.cli import main
from unified.apps.demo import random_model
from unified.pretrained import save_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "UNIFIED_API_KEY"),
        (["--api-key-file", "no-such-file"], "no-such-file"),
        (["--port", "70000"], "65535"),
        (["--rows", "0"], "at least 1"),
        (["--model", "no-such-folder"], "no-such-folder"),
        (["--page", "--store", __file__], "is a file"),
    ],
)
def test_what_cannot_be_served_is_one_line(options, said, capsys, monkeypatch):
    monkeypatch.delenv("UNIFIED_API_KEY", raising=False)
    try:
        status = main(["serve", *options])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_page_without_its_packages_is_one_line(capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else found(name))
    assert main(["page"]) == 1
    error = capsys.readouterr().err
    assert "unified-multimodal[web]" in error
    assert len(error.strip().splitlines()) == 1


def test_it_answers_until_it_is_stopped(tmp_path):
    save_model(tmp_path / "tiny", *random_model())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "unified.cli",
        "serve",
        "--model",
        str(tmp_path / "tiny"),
        "--port",
        str(port),
    ]
    environment = {**os.environ, "UNIFIED_API_KEY": "a-key-of-enough-letters"}
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout.readline() == f"tiny at http://127.0.0.1:{port}/v1\n"
        url = f"http://127.0.0.1:{port}"
        for _ in range(400):
            try:
                assert httpx.get(f"{url}/health").json() == {"status": "ok"}
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        assert httpx.get(f"{url}/v1/models").status_code == 401
        headers = {"authorization": "Bearer a-key-of-enough-letters"}
        assert httpx.get(f"{url}/v1/models", headers=headers).json()["data"][0]["id"] == "tiny"
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130
    finally:
        server.kill()
    lines = server.stderr.read().splitlines()
    assert "Traceback" not in "".join(lines)
    assert any(" GET other 401 " in line for line in lines)  # refused before it has a route
    assert any(" GET /v1/models 200 " in line for line in lines)
