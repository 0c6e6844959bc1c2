"""Roads: poses are exact, drivers touch nobody, plans are scored as published."""

import numpy as np
import pytest
from unified.tasks.registry import make
from unified.tasks.roads import road_task, traffic
from unified.tasks.roads.render import draw
from unified.tasks.roads.road_task import RoadConfig, RoadTask
from unified.tasks.roads.traffic import Box, Traffic

CENTRE = (16.0, 14.0)


def box(**options):
    return Box(**{"approach": 0, "turn": "straight", "place": -5.0, "speed": 6.0, **options})


@pytest.mark.parametrize("turn", traffic.TURNS)
@pytest.mark.parametrize("approach", range(4))
def test_a_path_has_no_jumps_and_heads_where_it_goes(turn, approach):
    places = np.arange(-6, 22, 0.05)
    poses = np.array([traffic.pose(box(approach=approach, turn=turn), s, CENTRE) for s in places])
    steps = np.diff(poses[:, :2], axis=0)
    assert np.allclose(np.hypot(*steps.T), 0.05, atol=1e-3)
    assert np.allclose(np.hypot(*poses[:, 2:].T), 1)
    assert np.allclose(steps / 0.05, poses[:-1, 2:], atol=0.03)


def test_turns_end_in_the_right_lane_of_the_other_road():
    left, right = (traffic.pose(box(turn=turn), 20.0, (0.0, 0.0)) for turn in ("left", "right"))
    assert left[1] == -2
    assert left[0] < -8
    assert right[1] == 2
    assert right[0] > 8


@pytest.mark.parametrize(("rate", "metres"), [(0.0, 12.0), (-6.0, 3.0), (-1.5, 9.0), (3.0, 16.5)])
def test_boxes_stop_and_keep_to_the_limit(rate, metres):
    assert traffic.travelled(6.0, rate, 2.0) == pytest.approx(metres)


def test_overlap_of_turned_boxes():
    at = np.array([0.0, 0.0, 0.0, -1.0])
    beside = np.array([2.1, 0.0, 0.0, -1.0])
    slanted = np.array([2.6, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
    assert not traffic.touch(at, beside)
    assert traffic.touch(at, beside, margin=0.2)
    assert traffic.touch(at, slanted)
    assert not traffic.touch(at, slanted + np.array([1.0, 0, 0, 0]))


def test_drivers_touch_nobody_and_some_must_brake():
    drives = [road_task.drive(RoadConfig(), n, "train") for n in range(60)]
    for one in drives:
        for number, at in enumerate(traffic.planned_poses(one.traffic, one.plan)):
            own = traffic.own_pose(one.traffic, one.rate, 0.5 * (number + 1))
            assert np.allclose(at[:2], own[:2], atol=1e-9)
            assert not traffic.collides(one.traffic, own, 0.5 * (number + 1))
    assert len({one.rate for one in drives}) > 2
    assert len({one.traffic.own.turn for one in drives}) == 3


def test_a_plan_survives_words_and_is_scored():
    task = RoadTask(RoadConfig(size=32))
    sample = task.sample(3)
    truth = np.array(sample.meta["plan"])
    assert np.array_equal(road_task.read_plan(road_task.plan_text(truth)), truth)
    right = task.score(sample, sample.messages[-1]["content"])
    assert right["valid"] == 1
    assert right["l2"] == right["l2_until"] == right["collision"] == 0
    assert right["psnr"] == 100
    scene = Traffic.from_json(sample.meta["traffic"])
    off = road_task.score_plan(scene, truth + [[n, 0.0] for n in range(1, 7)], truth)
    assert [off[f"l2_{s}s"] for s in (1, 2, 3)] == pytest.approx([2, 4, 6])
    assert off["l2"] == pytest.approx(4)
    assert off["l2_until"] == pytest.approx((1.5 + 2.5 + 3.5) / 3)
    assert task.score(sample, [{"type": "text", "text": "1,2 3,4"}])["valid"] == 0


def test_driving_through_a_box_is_a_collision():
    scene = Traffic(centre=CENTRE, own=box(), others=(box(place=4.0, speed=0.0),))
    assert traffic.chosen_rate(scene) < 0
    straight = traffic.waypoints(scene, 0.0)
    assert road_task.score_plan(scene, straight, straight)["collision"] > 0


def test_pictures_show_what_moves():
    scene = Traffic(centre=CENTRE, own=box(), others=(box(approach=2, speed=0.0, place=-4.0),))
    now, later = (draw(scene, 0.0, time, 32) for time in (0.0, 1.0))
    assert now.shape == (32, 32, 3)
    changed = np.abs(now.astype(int) - later).max(axis=2) > 20
    assert changed[:, 17:20].any()  # the own box, in the right lane
    assert not changed[:, :14].any()


BAD = [
    ({"size": 8}, "size must be 16"),
    ({"ahead": 4}, "ahead must"),
    ({"boxes": [4]}, "share"),
    ({"boxes": [9]}, "0 to 5"),
]


@pytest.mark.parametrize(("options", "said"), BAD)
def test_bad_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        make("road", **options)


def test_the_compositional_split_has_more_boxes():
    task = RoadTask(RoadConfig(size=16))
    assert {len(task.sample(n, "compositional").meta["traffic"]["others"]) for n in range(8)} <= {4, 5}
