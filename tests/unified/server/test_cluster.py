"""The server in replicas: configuration, and a Ray on this machine with two of them and one for worlds."""

import importlib.util
import json
import os
import socket
import time

import httpx
import pytest
from openai import OpenAI

from unified.apps.cli import main
from unified.server.app import create_app
from unified.server.cluster_config import ClusterConfig, ReplicaConfig, read_cluster
from unified.server.guard import Access
from unified.server.keys import Keys
from unified.server.limits import Limits

KEY = "a-key-of-enough-letters"
HEADERS = {"authorization": f"Bearer {KEY}"}


def test_a_configuration_is_read(tmp_path):
    file = tmp_path / "cluster.json"
    file.write_text("{}")
    assert read_cluster(file) == ClusterConfig()
    given = {"ray": "auto", "replicas": {"least": 2, "most": 4, "gpus": 0.5}, "worlds": False}
    file.write_text(json.dumps(given))
    expected = ReplicaConfig(least=2, most=4, gpus=0.5)
    assert read_cluster(file) == ClusterConfig(ray="auto", replicas=expected, worlds=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[]", "expected an object"),
        ("{", "not JSON"),
        ('{"rays": "auto"}', "unknown key 'rays'"),
        ('{"ray": 3}', "HOST:PORT"),
        ('{"ray": "ray://127.0.0.1:10001"}', "HOST:PORT"),
        ('{"ray": "127.0.0.1:1"}', "no Ray at 127.0.0.1:1"),
        ('{"ray": "somewhere"}', "HOST:PORT"),
        ('{"worlds": 1}', "true or false"),
        ('{"replicas": 2}', "replicas: expected an object"),
        ('{"replicas": {"count": 2}}', "replicas: unknown key 'count'"),
        ('{"replicas": {"least": 0}}', "least must be"),
        ('{"replicas": {"least": 3, "most": 2}}', "most must be from least (3)"),
        ('{"replicas": {"requests": 0}}', "requests must be"),
        ('{"replicas": {"gpus": "one"}}', "gpus must be"),
    ],
)
def test_a_bad_configuration_is_one_line(tmp_path, given, said, capsys, monkeypatch):
    monkeypatch.delenv("UNIFIED_API_KEY", raising=False)
    pytest.importorskip("ray", reason="ray is not installed")
    file = tmp_path / "cluster.json"
    file.write_text(given)
    assert main(["serve", "--cluster", str(file), "--model", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_page_is_not_spread(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("UNIFIED_API_KEY", raising=False)
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("gradio is not installed")
    assert main(["serve", "--page", "--cluster", str(tmp_path / "none.json")]) == 2
    assert "one process" in capsys.readouterr().err


def test_a_replica_without_worlds_says_so(serve):
    with serve(worlds=False).http() as http:
        for path in ("/v1/worlds", "/v1/worlds/step", "/v1/worlds/x/step"):
            answer = http.post(path, json={})
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "no_worlds"


def test_its_application_tells_whether_the_model_runs(assistant):
    guard = create_app(assistant)
    assert not guard.app.state.worker.alive
    guard.app.state.worker.start()
    assert guard.app.state.worker.alive
    guard.app.state.worker.stop()
    assert not guard.app.state.worker.alive


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def url():
    """A cluster of two replicas, and of one process for worlds, of a tiny random model."""
    pytest.importorskip("ray", reason="ray is not installed")
    from unified.server.cluster import Served, cluster

    def load():  # pickled by value: Ray's processes do not know this file
        from unified.apps.assistant import Assistant
        from unified.apps.demo import random_model

        return Assistant(*random_model(), side=32)

    served = Served(load=load, limits=Limits(), access=Access(keys=Keys([KEY])), name="tiny")
    config = ClusterConfig(replicas=ReplicaConfig(least=2, most=2, cpus=0.5))
    port = free_port()
    with cluster(served, config, host="127.0.0.1", port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def client(url):
    return OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=4)


def answering(url, count=2, seconds=120):
    """The names of the replicas that answer, once there are so many."""
    found, end = set(), time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        answer = httpx.get(f"{url}/v1/models", headers=HEADERS, timeout=60)
        if answer.status_code == 200:
            found.add(answer.headers["x-replica"])
    return found


@pytest.mark.slow
def test_both_replicas_answer(url):
    assert len(answering(url)) == 2
    assert httpx.get(f"{url}/v1/models").status_code == 401
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}


@pytest.mark.slow
def test_the_client_of_openai_works_unchanged(client):
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "seed": 3, "max_tokens": 8}
    answers = [client.chat.completions.create(**asked).choices[0].message.content for _ in range(6)]
    assert len(set(map(str, answers))) == 1, "each replica gives the same answer"
    streamed = client.chat.completions.create(**asked, stream=True, modalities=["text"])
    said = "".join(part.choices[0].delta.content or "" for part in streamed if part.choices)
    assert said == client.chat.completions.create(**asked, modalities=["text"]).choices[0].message.content
    drawn = client.images.generate(prompt="A red circle", size="32x32")
    assert drawn.data[0].b64_json
    with pytest.raises(Exception, match="no such model"):
        client.chat.completions.create(**{**asked, "model": "other"})


@pytest.mark.slow
def test_worlds_are_kept_by_one_process(url):
    import gymnasium
    import numpy as np

    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    rows = gymnasium.make_vec("unified/RemoteWorld-v0", num_envs=2, url=url, key=KEY, start=picture)
    rows.reset(seed=0)
    for step in range(4):  # one that is not the keeper would not know them
        assert rows.step([{"forward": 1}, {"back": 1}])[4]["steps"].tolist() == [step + 1] * 2
    number = rows.episodes.numbers[0]
    from websockets.sync.client import connect

    with connect(
        f"{url.replace('http', 'ws')}/v1/worlds/{number}/play", additional_headers=HEADERS
    ) as socket:
        socket.send(json.dumps({"forward": 1}))
        assert isinstance(socket.recv(), bytes)
    rows.close()


@pytest.mark.slow
def test_a_killed_replica_is_replaced(url, client):
    import ray

    before = answering(url)
    name = next(
        found["name"]
        for found in ray.util.list_named_actors(all_namespaces=True)
        if found["name"].startswith("SERVE_REPLICA") and any(known in found["name"] for known in before)
    )
    ray.kill(ray.get_actor(name, namespace="serve"), no_restart=True)
    end = time.monotonic() + 180
    while time.monotonic() < end:
        found = answering(url, 2, 10)
        if len(found) == 2 and found != before:
            break
    assert len(found & before) == 1
    assert len(found) == 2
    assert client.models.list().data[0].id == "tiny"


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped(tmp_path):
    import signal
    import subprocess
    import sys

    from unified.apps.demo import random_model
    from unified.pretrained import save_model

    pytest.importorskip("ray", reason="ray is not installed")
    save_model(tmp_path / "tiny", *random_model())
    file, port = tmp_path / "cluster.json", free_port()
    file.write_text(json.dumps({"worlds": False, "replicas": {"least": 1, "most": 2}}))
    command = [sys.executable, "-m", "unified.cli", "serve", "--model", str(tmp_path / "tiny")]
    command += ["--cluster", str(file), "--port", str(port)]
    environment = {**os.environ, "UNIFIED_API_KEY": KEY}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == f"tiny at http://127.0.0.1:{port}/v1, replicas: 1 to 2\n"
        url = f"http://127.0.0.1:{port}"
        assert len(answering(url, 1)) == 1
        refused = httpx.post(f"{url}/v1/worlds", json={}, headers=HEADERS)
        assert refused.json()["error"]["code"] == "no_worlds"
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
    finally:
        server.kill()
