"""A tiny random model, and servers of it in threads."""

import socket
import threading
import time

import pytest

pytest.importorskip("fastapi", reason="the server's packages are not installed")
import httpx
import uvicorn
from openai import OpenAI

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model
from unified.server.app import create_app


@pytest.fixture(scope="session")
def parts():
    """Model and processor."""
    return random_model()


@pytest.fixture(scope="session")
def shapes(parts):
    return parts[1].schedule((4, 4))


@pytest.fixture(scope="session")
def assistant(parts):
    return Assistant(*parts, side=32)


class Running:
    """A server on a free port of this machine."""

    def __init__(self, assistant, **options):
        self.guard = create_app(assistant, **options)
        config = uvicorn.Config(self.guard, log_level="error", access_log=False, ws="websockets-sansio")
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def client(self, key="none", **options):
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **options)

    def http(self, **options):
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def number(self, name):
        """One of the metrics."""
        lines = self.http().get("/metrics").text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

    def close(self):
        self.server.should_exit = True
        self.thread.join(20)
        self.socket.close()


@pytest.fixture(scope="session")
def serve(assistant):
    """Starts servers, which end with the tests."""
    running = []

    def start(**options):
        running.append(Running(assistant, **options))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture(scope="session")
def server(serve):
    return serve()
