"""A service of a tiny random model whose worker runs, and what the page keeps."""

import pytest

pytest.importorskip("fastapi", reason="the server's packages are not installed")

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model
from unified.server.limits import Limits
from unified.server.scheduler import Scheduler
from unified.server.service import Service
from unified.server.worker import Worker
from unified.web.site import Site
from unified.web.store import Store


@pytest.fixture(scope="session")
def assistant():
    return Assistant(*random_model(), side=32)


@pytest.fixture(scope="session")
def service(assistant):
    limits = Limits()
    worker = Worker(Scheduler(assistant.model, assistant.processor, limits))
    worker.start()
    yield Service(assistant, worker, limits, "tiny")
    worker.stop()


@pytest.fixture
def site(service, tmp_path):
    return Site(service, Store(tmp_path / "kept"))
