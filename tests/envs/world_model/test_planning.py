"""Planning over rows that go on from one state."""

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from unified.envs.world_model import WorldModelEnv
from unified.envs.world_model.planning import PlannerConfig, plan, returns

TABLE = ({}, {"forward": 1}, {"left": 1}, {"jump": 1})


def forward(previous, action, frame):
    """A point for every step ahead; a jump ends the episode."""
    return float(action["forward"]), bool(action["jump"])


@pytest.fixture
def env(assistant, picture):
    made = WorldModelEnv(assistant, picture(), reward_fn=forward)
    made.reset(seed=0)
    return made


def test_the_cross_entropy_method_finds_what_pays(env):
    before = env.get_state()
    config = PlannerConfig(horizon=4, candidates=16, rounds=4, elites=3, discount=1.0)
    found = plan(env, TABLE, config, seed=1)
    assert found.choices.tolist() == [1, 1, 1, 1]
    assert found.value == 4.0
    assert found.actions == [{"forward": 1}] * 4
    shot = plan(env, TABLE, PlannerConfig(horizon=4, candidates=16, discount=1.0), seed=1)
    assert shot.value == shot.values.max()
    assert found.values.mean() > shot.values.mean(), "later rounds are drawn from the best"
    assert env.get_state().dream is before.dream, "the environment itself has not moved"


def test_returns_are_those_of_single_environments(env):
    sequences = [[TABLE[1], TABLE[1]], [TABLE[3], TABLE[1]], [TABLE[0], TABLE[1]]]
    assert returns(env.fork_rows(3), sequences, 0.5).tolist() == [1.5, 0.0, 0.5]
    with pytest.raises(ValueError, match="3 rows"):
        returns(env.fork_rows(3), sequences[:2])


def test_bad_plans_are_refused(assistant, picture):
    bare = WorldModelEnv(assistant, picture())
    bare.reset(seed=0)
    with pytest.raises(ValueError, match="reward_fn"):
        plan(bare, TABLE)
    fresh = WorldModelEnv(assistant, picture(), reward_fn=forward)
    with pytest.raises(ValueError, match="at least one action"):
        plan(fresh, [])
    with pytest.raises(ResetNeeded):
        plan(fresh, TABLE)
    for settings in (
        {"horizon": 0},
        {"elites": 20},
        {"discount": 1.5},
        {"discount": np.nan},
        {"rounds": True},
    ):
        with pytest.raises(ValueError, match=r"must be"):
            PlannerConfig(**settings)
