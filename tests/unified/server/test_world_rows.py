"""Rows of remote worlds: one client, one request a step, and each row what a single remote world is."""

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from unified.envs.remote_world import RemoteWorldEnv
from unified.envs.remote_world_rows import RemoteWorldVectorEnv

import unified  # noqa: F401 - registers the environments
from unified.server.errors import ApiError
from unified.server.limits import Limits
from unified.server.worlds import Worlds

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
WALK = [{"forward": 1}, {"camera": [0, 5]}, {"jump": 1, "forward": 1}, {"left": 1, "camera": [3, 0]}]
NAME = "unified/RemoteWorld-v0"


@pytest.fixture(scope="module")
def worlds(serve):
    return serve(limits=Limits(worlds=8, all_worlds=8))


@pytest.fixture
def make(worlds):
    made = []

    def rows(count=3, **settings):
        made.append(RemoteWorldVectorEnv(count, worlds.url, PICTURE, **settings))
        return made[-1]

    yield rows
    for one in made:
        one.close()


def test_make_vec_has_one_client_for_all_rows(worlds):
    rows = gymnasium.make_vec(NAME, num_envs=2, url=worlds.url, start=PICTURE, max_episode_steps=2)
    assert isinstance(rows, RemoteWorldVectorEnv)
    assert rows.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observations, infos = rows.reset(seed=0)
    assert observations in rows.observation_space
    assert infos["steps"].tolist() == [0, 0]
    rows.action_space.seed(0)
    for ended in (False, True, False):
        observations, rewards, terminations, truncations, infos = rows.step(rows.action_space.sample())
        assert observations in rows.observation_space
        assert truncations.tolist() == [ended] * 2
        assert not rewards.any()
        assert not terminations.any()
    assert infos["steps"].tolist() == [0, 0]
    assert np.array_equal(np.stack(rows.render()), observations["pov"])
    rows.close()


@pytest.mark.parametrize(("mode", "temperature"), zip(AutoresetMode, (1.0, 0.0, 1.0), strict=True))
def test_rows_are_what_single_remote_worlds_are(make, worlds, mode, temperature):
    def single():
        env = RemoteWorldEnv(worlds.url, PICTURE, temperature=temperature)
        return gymnasium.wrappers.TimeLimit(env, 2)

    singles = SyncVectorEnv([single] * 3, autoreset_mode=mode)
    rows = make(autoreset_mode=mode, temperature=temperature, max_episode_steps=2)
    expected, found = singles.reset(seed=[5, 6, 9]), rows.reset(seed=[5, 6, 9])
    assert np.array_equal(expected[0]["pov"], found[0]["pov"])
    assert rows.np_random_seed == (5, 6, 9)
    for step in range(5):
        if mode is AutoresetMode.DISABLED and step and step % 2 == 0:
            with pytest.raises(ResetNeeded):
                rows.step(WALK[:3])
            mask = {"reset_mask": np.ones(3, dtype=bool)}
            singles.reset(options=dict(mask))
            rows.reset(options=mask)
        actions = [WALK[(step + row) % 4] for row in range(3)]
        given = singles.single_action_space
        whole = [{**given.noop(), **action} for action in actions]
        columns = {name: np.stack([np.asarray(one[name]) for one in whole]) for name in given.spaces}
        expected, found = singles.step(columns), rows.step(actions)
        assert np.abs(expected[0]["pov"].astype(int) - found[0]["pov"]).max() <= 1
        assert np.array_equal(expected[3], found[3])
        assert np.array_equal(expected[4]["steps"], found[4]["steps"])
        assert ("final_obs" in expected[4]) == ("final_obs" in found[4])
    singles.close()


def test_a_mask_starts_some_rows_anew_and_the_others_go_on(make):
    rows, whole = make(2), make(2)
    rows.reset(seed=0)
    whole.reset(seed=0)
    rows.step(WALK[:2])
    expected = whole.step(WALK[:2])[0]["pov"]
    first, infos = rows.reset(seed=[0, None], options={"reset_mask": np.array([True, False])})
    assert infos["_steps"].tolist() == [True, False]
    assert np.array_equal(first["pov"][1], expected[1])
    again = rows.step([WALK[0], WALK[2]])[0]["pov"]
    assert np.abs(again[0].astype(int) - expected[0]).max() <= 1
    assert np.abs(again[1].astype(int) - whole.step(WALK[1:3])[0]["pov"][1]).max() <= 1


def test_worlds_of_a_step_share_the_passes_of_the_model(assistant):
    worlds = Worlds(assistant, Limits(worlds=8, all_worlds=8))
    made = [worlds.create("a", PICTURE, seed, 1.0) for seed in range(3)]
    numbers = [world.number for world in made]
    for step in range(2):
        worlds.step_all("a", {number: WALK[step] for number in numbers})
    dream = made[0].dream
    assert all(world.dream is dream for world in made)
    assert {world.row for world in made} == {0, 1, 2}
    worlds.close("a", numbers[1])
    new = worlds.create("a", PICTURE, 1, 1.0)
    worlds.step_all("a", {number: WALK[2] for number in (numbers[0], new.number)})
    assert new.dream is dream, "a new world takes the row that is free"
    assert new.row == made[1].row or len(dream.states) == 3
    assert (made[0].steps, made[2].steps, new.steps) == (3, 2, 1)
    alone = worlds.step("a", numbers[2], WALK[2])
    assert alone.dream is not dream, "a row alone does not run beside idle ones"


def test_bad_steps_of_all_change_nothing(assistant, worlds):
    held = Worlds(assistant, Limits(worlds=8, all_worlds=8))
    one, two = (held.create("a", PICTURE, seed, 0.0) for seed in range(2))
    other = held.create("b", PICTURE, 0, 0.0)
    for wrong, status in (
        ({two.number: {"fly": 1}}, 400),
        ({other.number: {}}, 404),
        ({"nothing": {}}, 404),
    ):
        with pytest.raises(ApiError) as refused:
            held.step_all("a", {one.number: {}, **wrong})
        assert refused.value.status == status
    assert one.steps == two.steps == other.steps == 0
    for body in ({"actions": {}}, {"actions": []}, {"actions": {"x": 3}}, {}):
        assert worlds.http().post("/v1/worlds/step", json=body).status_code == 400


def test_bad_input_and_the_end(make, worlds):
    rows = make(2)
    with pytest.raises(ResetNeeded):
        rows.step([{}, {}])
    rows.reset(seed=1)
    for actions, message in (([{}], "2 dictionaries"), ([{}, {"fly": 1}], "fly"), ([{}, None], "row 1")):
        with pytest.raises(ValueError, match=message):
            rows.step(actions)
    for options in ({"start": "data:nothing"}, {"frames": []}):
        with pytest.raises(ValueError, match=r"."):
            rows.reset(options=options)
    assert rows.step([{}, {}])[4]["steps"].tolist() == [1, 1]
    for settings, message in (({"autoreset_mode": "Never"}, "autoreset_mode"), ({"count": 0}, "num_envs")):
        with pytest.raises(ValueError, match=message):
            make(**settings)
    with pytest.raises(ValueError, match="start="):
        RemoteWorldVectorEnv(2, worlds.url)
    with pytest.raises(ConnectionError):
        RemoteWorldVectorEnv(2, "http://127.0.0.1:9", PICTURE)
    rows.close()
    rows.close()
    for call in (rows.reset, lambda: rows.step([{}, {}])):
        with pytest.raises(ClosedEnvironmentError):
            call()


def test_a_reset_that_the_server_refuses_can_be_repeated(make):
    rows, many = make(2), make(7)
    many.reset(seed=0)
    with pytest.raises(ValueError, match="at most 8 worlds"):
        rows.reset(seed=0)
    many.close()
    rows.reset(seed=0, options={"start": "A green field."})
    assert rows.step([{}, {}])[4]["steps"].tolist() == [1, 1]
