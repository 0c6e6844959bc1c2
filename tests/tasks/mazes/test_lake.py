import gymnasium
import numpy as np
import pytest
from unified.tasks.mazes.lake import ACTIONS, Lake, cross, distances, named_lake, plan, progress, random_lake

SMALL = named_lake("4x4")


@pytest.mark.parametrize("side", [4, 5, 6, 7, 8])
def test_the_plan_solves_the_environment_in_the_fewest_steps(side):
    for seed in range(10):
        lake = random_lake(np.random.default_rng(seed), side)
        actions = plan(lake)
        crossing = cross(lake, actions)
        assert crossing.reached
        assert len(actions) == distances(lake)[lake.start]
        assert len(crossing.cells) == len(actions) + 1
        assert progress(lake, crossing) == 1


def test_crossing_agrees_with_the_environment_for_random_actions():
    rng = np.random.default_rng(0)
    for _ in range(30):
        lake = random_lake(rng, 4)
        chosen = rng.integers(4, size=12)
        env = gymnasium.make("FrozenLake-v1", desc=list(lake.tiles), is_slippery=False)
        env.reset(seed=0)
        states, reward, ended = [0], 0.0, False
        for action in chosen:
            state, reward, ended, _, _ = env.step(int(action))
            states.append(int(state))
            if ended:
                break
        crossing = cross(lake, [ACTIONS[action] for action in chosen])
        assert [r * 4 + c for r, c in crossing.cells] == states
        assert crossing.reached == (ended and reward > 0)
        assert (crossing.fault is not None) == (ended and reward == 0)


def test_progress_counts_the_prefix_of_any_shortest_route():
    other = ["right", "right", "down", "down", "down", "right"]
    assert other != plan(SMALL)
    assert cross(SMALL, other).reached
    assert progress(SMALL, cross(SMALL, other)) == 1
    assert progress(SMALL, cross(SMALL, other[:3])) == 3 / 6
    assert progress(SMALL, cross(SMALL, ["right", "left", "down"])) == 1 / 6
    assert progress(SMALL, cross(SMALL, ["down", "right"])) == 1 / 6  # into the hole
    assert progress(SMALL, cross(SMALL, [])) == 0
    assert progress(SMALL, cross(SMALL, ["up", *plan(SMALL)])) == 1  # a detour that arrives


def test_faults_are_named():
    assert cross(SMALL, ["down", "right"]).fault == "fell into the hole at (1, 1)"
    assert cross(SMALL, ["down", "fly"]).fault == "unknown action 'fly'"
    assert cross(SMALL, ["up"] * 200).fault == "ran out of time"


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ((), "rows of equal length"),
        (("SF", "FFG"), "rows of equal length"),
        (("SX", "FG"), "letters"),
        (("FF", "FG"), "one S"),
        (("SG", "FG"), "one S"),
        (("SH", "HG"), "cannot be reached"),
    ],
)
def test_bad_lakes_are_refused(tiles, message):
    with pytest.raises(ValueError, match=message):
        Lake(tiles=tiles)


def test_unknown_map_names_are_refused():
    with pytest.raises(ValueError, match="4x4, 8x8"):
        named_lake("9x9")
