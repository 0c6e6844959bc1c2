"""What the OpenAPI description allows never breaks the server, and neither do 10,000 spoilt bodies."""

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from unified.server.app import create_app
from unified.server.limits import Limits, RequestLimits
from unified.server.uploads import data_url

sys.path.insert(0, str(Path(__file__).parents[2]))
from spoilt_bodies import mutated

SMALL = Limits(rows=8, request=RequestLimits(tokens=4, images=1, choices=2))
EXAMPLES = 12  # of each operation
COUNT = 10_000
PICTURE = data_url(np.zeros((8, 8, 3), np.uint8))
CONTENT = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
BODIES = {
    "/v1/chat/completions": {
        "model": "unified", "messages": [{"role": "user", "content": CONTENT}], "max_tokens": 1, "n": 1,
        "modalities": ["text"], "temperature": 1.0, "top_p": 0.9, "seed": 1, "stop": ["x"],
        "logprobs": True, "top_logprobs": 2,
    },
    "/v1/images/generations": {"prompt": "x", "n": 1, "size": "1x1", "seed": 1, "guidance": 1.0},
    "/v1/worlds": {"image": PICTURE, "seed": 1, "temperature": 0.5},
    "/v1/worlds/none/step": {"actions": [{"forward": 1, "camera": [0, 5]}]},
    "/v1/worlds/none/fork": {"seed": 1},
}  # fmt: skip


@pytest.mark.slow
def test_no_request_of_the_description_is_a_failure_of_the_server(serve):
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, given, settings

    server = serve(limits=SMALL)
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    asked = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case):
            answer = case.call(base_url=server.url, timeout=120)
            asked[case.operation.label] = asked.get(case.operation.label, 0) + 1
            assert answer.status_code < 500, (case.operation.label, answer.text)

        check()
    print(f"{sum(asked.values())} requests of {len(asked)} operations")
    assert len(asked) >= 10


@pytest.mark.slow
def test_ten_thousand_spoilt_bodies_leave_no_traceback(assistant, caplog):
    """In this process, without a socket: a failure would be raised or logged here."""
    guard = create_app(assistant, limits=SMALL)
    rng = random.Random(0)

    async def post(http):
        path = rng.choice(list(BODIES))
        body = mutated(rng, BODIES[path])
        answer = await http.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, (path, body[:500], answer.text)
        assert "Traceback" not in answer.text
        return answer.status_code

    async def ask():
        transport = httpx.ASGITransport(guard, raise_app_exceptions=True)
        http = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        async with guard.app.router.lifespan_context(guard.app), http:
            return Counter([await post(http) for _ in range(COUNT)])

    statuses = asyncio.run(ask())
    print(f"{COUNT} bodies: {dict(statuses)}")
    assert sum(statuses.values()) == COUNT
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
