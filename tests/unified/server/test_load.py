"""Many clients at once, and clients that leave."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from unified.server.limits import Limits, RequestLimits


def asked(number):
    messages = [{"role": "user", "content": "Hello " * (1 + number % 3)}]
    options = {"temperature": 1.0, "seed": number, "max_tokens": 5 + number, "modalities": ["text"]}
    return {"model": "unified", "messages": messages, **options}


@pytest.fixture(scope="module")
def busy(serve):
    return serve(limits=Limits(rows=6, queue=4, request=RequestLimits(tokens=100_000)))


def test_answers_to_many_at_once_are_those_to_each_alone(busy):
    with busy.http() as http:

        def post(number):
            answer = http.post("/v1/chat/completions", json=asked(number)).json()
            return answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"]

        alone = [post(number) for number in range(10)]
        passes = busy.number("unified_text_passes_total")
        with ThreadPoolExecutor(10) as clients:
            assert list(clients.map(post, range(10))) == alone
        shared = busy.number("unified_text_passes_total") - passes
        assert shared < sum(count for _, count in alone) / 1.5
        assert (
            'unified_requests_total{route="/v1/chat/completions",status="200"} 20.0'
            in http.get("/metrics").text
        )


def test_too_many_at_once_are_told_to_come_again(busy):
    with busy.http(limits=httpx.Limits(max_connections=40)) as http, ThreadPoolExecutor(40) as clients:
        long = {**asked(1), "max_tokens": 60}
        answers = list(clients.map(lambda _: http.post("/v1/chat/completions", json=long), range(40)))
        assert {answer.status_code for answer in answers} <= {200, 429}
        assert sum(answer.status_code == 200 for answer in answers) >= 10
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_a_client_that_does_not_wait_frees_its_row(busy):
    endless = {**asked(11), "temperature": 2.0, "max_tokens": 100_000}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{busy.url}/v1/chat/completions", json=endless, timeout=0.5)
    began = time.monotonic()
    while busy.number("unified_rows"):
        assert time.monotonic() - began < 1.0
        time.sleep(0.02)
