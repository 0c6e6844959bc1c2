"""Walks: followers do what words say, routes are the shortest, views show what is there."""

from collections import Counter

import numpy as np
import pytest
from unified.tasks.registry import make
from unified.tasks.walks import town as towns
from unified.tasks.walks.town import Stand, Town
from unified.tasks.walks.walk_task import VoxelWalk, WalkConfig, score_words, town_of, walk


@pytest.fixture(scope="module")
def town():
    return Town(3)


def test_each_colour_is_there_twice(town):
    assert set(Counter(colour for line in town.colours for colour in line).values()) == {2}


def test_a_turn_to_the_right_is_to_the_right():
    """Heading along z, x grows to the left in the picture (`envs.voxel.render`)."""
    assert Stand((1, 1), 0).turned("right").ahead() == Stand((0, 1), 1)
    assert Stand((1, 1), 0).turned("left").ahead() == Stand((2, 1), 3)
    assert Stand((0, 0), 2).ahead() is None


def test_followers_walk_every_route(town):
    count = 0
    for turns in (0, 1, 2):
        for route in town.routes(Stand((1, 0), 0), turns):
            assert town.follow(route.stands[0], route.text) == route.stands
            assert len(towns.read_orders(route.text)) == turns + 1
            count += 1
    assert count > 10


def test_no_route_to_the_same_end_is_shorter(town):
    start = Stand((1, 0), 0)
    lengths = {}
    for route in town._walks(start, 2):
        end = route.stands[-1]
        lengths[end] = min(route.length, lengths.get(end, 99))
    assert all(route.length == lengths[route.stands[-1]] for route in town.routes(start, 2))


def test_words_are_scored_by_where_they_lead():
    town, route = walk(WalkConfig(), 4, "train")
    stands = list(route.stands)
    assert score_words(town, stands, route.text) == {"success": 1, "spl": 1, "exact": 1, "valid": 1}
    assert score_words(town, stands, "Go somewhere.")["valid"] == 0
    swapped = route.text.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
    assert score_words(town, stands, swapped)["exact"] == 0
    no_stop = route.text[: route.text.index("Stop")]
    assert score_words(town, stands, no_stop) == {"success": 0, "spl": 0, "exact": 0, "valid": 0}


def test_a_detour_counts_less():
    config = WalkConfig(turns=(1,), unseen_turns=(3,))
    found = []
    for number in range(12):
        town, route = walk(config, number, "train")
        start, goal = route.stands[0], route.stands[-1].cell
        for other in town._walks(start, 3):
            there = other.stands[-1].cell == goal and other.length > route.length
            if there and town.follow(start, other.text) == other.stands:
                scores = score_words(town, list(route.stands), other.text)
                found.append((scores, route.length / other.length))
    assert found
    assert all(scores["success"] == 1 and scores["spl"] == spl for scores, spl in found)


def test_views_differ_by_place_and_heading():
    town = town_of(0)
    views = [town.view(Stand((1, 1), heading), 32) for heading in range(4)]
    assert views[0].shape == (32, 32, 3)
    assert len({view.tobytes() for view in views}) == 4
    assert np.array_equal(views[2], Town(0).view(Stand((1, 1), 2), 32))


def test_the_ground_under_a_walker_is_seen():
    """The lower middle of a view has the colour of the crossing: equal for equal colours."""
    town = town_of(0)
    cells = [(x, z) for x in range(4) for z in range(4)]
    by_colour: dict[str, list[np.ndarray]] = {}
    for cell in cells:
        middle = town.view(Stand(cell, 0), 32)[19:24, 14:18].reshape(-1, 3).mean(axis=0)
        by_colour.setdefault(town.colour(cell), []).append(middle)
    inside = [np.abs(a - b).max() for a, b in by_colour.values()]
    assert max(inside) < 25
    means = np.array([np.mean(values, axis=0) for values in by_colour.values()])
    apart = np.abs(means[:, None] - means[None]).max(axis=2) + 255 * np.eye(len(means))
    assert apart.min() > 5


def test_samples_and_bad_options():
    task = VoxelWalk(WalkConfig(size=16))
    sample = task.sample(2)
    right = task.score(sample, sample.messages[-1]["content"])
    assert right["success"] == right["exact"] == 1
    assert {len(task.sample(n, "compositional").meta["text"].split(". ")) for n in range(3)} == {4}
    with pytest.raises(ValueError, match="turns must be whole numbers"):
        make("voxel_walk", turns=[7])
    with pytest.raises(ValueError, match="towns must be"):
        make("voxel_walk", towns=0)
