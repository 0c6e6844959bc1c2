"""Worlds over the wire show what a dream in memory shows, and belong to the client that made them."""

import base64
import io
import json

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import unified  # noqa: F401 - registers the environments
from unified.server.errors import ApiError
from unified.server.guard import Access
from unified.server.keys import Keys
from unified.server.limits import Limits
from unified.server.uploads import data_url
from unified.server.worlds import Worlds

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
ACTIONS = [{"forward": 1}, {"camera": [0, 5]}, {"jump": 1, "forward": 1}]
FIRST, SECOND = "first-key-of-enough", "second-key-of-enough"


def pixels(held):
    held = base64.b64decode(held.partition(",")[2]) if isinstance(held, str) else held
    return np.asarray(Image.open(io.BytesIO(held)))


@pytest.fixture(scope="module")
def worlds(serve):
    return serve(access=Access(keys=Keys([FIRST, SECOND])), limits=Limits(worlds=3, all_worlds=5))


@pytest.fixture(scope="module")
def first(worlds):
    with worlds.http(headers={"authorization": f"Bearer {FIRST}"}) as http:
        yield http


@pytest.fixture(scope="module")
def second(worlds):
    with worlds.http(headers={"authorization": f"Bearer {SECOND}"}) as http:
        yield http


@pytest.fixture
def made(first):
    """A new world of the first client."""
    answer = first.post("/v1/worlds", json={"image": data_url(PICTURE), "seed": 4, "temperature": 1.0})
    assert answer.status_code == 201
    yield answer.json()
    first.delete(f"/v1/worlds/{answer.json()['id']}")


@pytest.fixture(scope="module")
def expected(assistant):
    """The frames of the same dream in memory."""
    from unified.decoding.sampling import Sampler

    dream = assistant.dream((32, 32), sampler=Sampler(temperature=1.0))
    dream.start([0], [[assistant.picture(PICTURE)]], [[]], [4])
    return [dream.step([action]).images[0] for action in ACTIONS]


def test_steps_show_what_a_dream_shows(first, made, expected, assistant):
    assert (pixels(made["frame"]) == assistant.picture(PICTURE)).all()
    path = f"/v1/worlds/{made['id']}"
    found = first.post(f"{path}/step", json={"actions": ACTIONS}).json()
    assert found["steps"] == 3
    assert [pixels(frame).tolist() for frame in found["frames"]] == [e.tolist() for e in expected]
    assert (pixels(first.get(path).json()["frame"]) == expected[-1]).all()


def test_forks_go_on_from_where_they_are_made(first, made, expected):
    path = f"/v1/worlds/{made['id']}"
    first.post(f"{path}/step", json={"actions": ACTIONS[:1]})
    fork = first.post(f"{path}/fork", json={}).json()
    other = first.post(f"{path}/fork", json={"seed": 77}).json()
    assert fork["steps"] == other["steps"] == 1
    rest = {"actions": ACTIONS[1:]}
    frames = [
        pixels(first.post(f"/v1/worlds/{number}/step", json=rest).json()["frames"][-1])
        for number in (fork["id"], other["id"], made["id"])
    ]
    assert (frames[0] == expected[-1]).all()
    assert (frames[2] == expected[-1]).all()
    assert (frames[1] != expected[-1]).any()
    refused = first.post(f"{path}/fork", json={})  # forks count against the client's three
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    for number in (fork["id"], other["id"]):
        assert first.delete(f"/v1/worlds/{number}").json()["deleted"]
        assert first.get(f"/v1/worlds/{number}").status_code == 404


def test_a_world_belongs_to_the_client_that_made_it(first, second, made):
    path = f"/v1/worlds/{made['id']}"
    assert second.get(path).status_code == 404
    assert second.post(f"{path}/step", json={"actions": ACTIONS}).status_code == 404
    assert second.post(f"{path}/fork", json={}).status_code == 404
    assert second.delete(path).status_code == 404
    assert first.get(path).json()["steps"] == 0


@pytest.mark.parametrize(
    "action", [{"fly": 1}, {"forward": 2}, {"camera": [0]}, {"camera": [1e9, 0]}, {"forward": [[1]] * 2}]
)
def test_malformed_actions_change_nothing(first, made, action):
    path = f"/v1/worlds/{made['id']}"
    assert first.post(f"{path}/step", json={"actions": [action]}).status_code == 400
    assert first.get(path).json()["steps"] == 0


def test_a_world_starts_from_a_picture_or_from_words(first):
    for body in ({}, {"image": "/etc/passwd"}, {"image": data_url(PICTURE), "words": "x"}, {"words": ""}):
        assert first.post("/v1/worlds", json=body).status_code == 400
    made = first.post("/v1/worlds", json={"words": "A green field"}).json()
    assert pixels(made["frame"]).shape == (32, 32, 3)
    first.delete(f"/v1/worlds/{made['id']}")


def test_a_socket_answers_actions_with_frames(worlds, made, expected):
    url = worlds.url.replace("http", "ws") + f"/v1/worlds/{made['id']}/play"
    with connect(url, additional_headers={"authorization": f"Bearer {FIRST}"}) as socket:
        for action, frame in zip(ACTIONS, expected, strict=True):
            socket.send(json.dumps(action))
            assert (pixels(socket.recv()) == frame).all()
        for wrong in ("not json", "[]", '{"fly": 1}', "[" * 50_000):
            socket.send(wrong)
            assert json.loads(socket.recv())["error"]["type"] == "invalid_request_error"
        socket.send(b"bytes")
        assert "error" in json.loads(socket.recv())
    with connect(url, additional_headers={"authorization": f"Bearer {SECOND}"}) as socket:
        socket.send(json.dumps(ACTIONS[0]))
        assert json.loads(socket.recv())["error"]["code"] == "no_such_world"
        with pytest.raises(ConnectionClosed):
            socket.recv()
    for headers in ({}, {"authorization": f"Bearer {FIRST}", "origin": "https://evil.example"}):
        with pytest.raises(InvalidStatus):
            connect(url, additional_headers=headers)


def test_idle_worlds_end_and_the_server_has_room_for_so_many(assistant):
    now = [0.0]
    worlds = Worlds(assistant, Limits(worlds=2, all_worlds=3, idle=10), clock=lambda: now[0])
    old = worlds.create("a", PICTURE, 0, 0.0)
    worlds.create("a", PICTURE, 0, 0.0)
    worlds.create("b", PICTURE, 0, 0.0)
    for client in ("a", "b"):
        with pytest.raises(ApiError) as refused:
            worlds.create(client, PICTURE, 0, 0.0)
        assert refused.value.status == 429
    now[0] = 9.0
    worlds.step("a", old.number, {})
    now[0] = 11.0
    worlds.end_idle()
    assert len(worlds) == 1
    now[0] = 20.0
    with pytest.raises(ApiError):
        worlds.step("a", old.number, {})


def test_a_remote_world_is_an_environment(worlds, expected, assistant):
    env = gymnasium.make(
        "unified/RemoteWorld-v0", url=worlds.url, key=FIRST, start=PICTURE, disable_env_checker=False
    )
    first, _ = env.reset(seed=1)
    assert env.observation_space.contains(first)
    assert (first["pov"] == assistant.picture(PICTURE)).all()
    greedy = assistant.dream((32, 32))
    greedy.start([0], [[assistant.picture(PICTURE)]], [[]], [0])
    for action in ACTIONS:
        whole = env.action_space.noop() if hasattr(env.action_space, "noop") else {}
        seen, reward, terminated, truncated, info = env.step({**whole, **action})
        assert (seen["pov"] == greedy.step([action]).images[0]).all()
        assert (reward, terminated, truncated) == (0.0, False, False)
    assert info["steps"] == 3
    with pytest.raises(ValueError, match="fly"):
        env.unwrapped.step({"fly": 1})
    env.close()
    with pytest.raises(ResetNeeded):
        env.unwrapped.step({})
    with pytest.raises(ValueError, match="API key"):
        gymnasium.make("unified/RemoteWorld-v0", url=worlds.url, start=PICTURE)
    with pytest.raises(ConnectionError):
        gymnasium.make("unified/RemoteWorld-v0", url="http://127.0.0.1:9", start=PICTURE)
    with pytest.raises(ValueError, match="start="):
        gymnasium.make("unified/RemoteWorld-v0", url=worlds.url)
