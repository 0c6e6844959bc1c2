"""Scene programs: text and back, rendering, matching, and what is held out."""

from dataclasses import replace

import numpy as np
import pytest
from unified.tasks.programs import program as programs
from unified.tasks.programs.program import Part
from unified.tasks.programs.program_task import ProgramConfig, SceneProgram, compare, held_out, program
from unified.tasks.programs.render import overlap, render
from unified.tasks.registry import make


def part(**options):
    chosen = {"shape": "square", "colour": "red", "size": "large", "x": 0.3, "y": 0.4, "angle": 30.0}
    return Part(**{**chosen, **options})


TWO = (part(), part(shape="heart", colour="blue", x=0.7, y=0.6, angle=200.0))


def test_text_and_back():
    assert programs.parse(programs.text_of(TWO)) == TWO
    assert programs.from_json(programs.to_json(TWO)) == TWO
    assert programs.text_of(TWO[:1]) == "add(shape=square, colour=red, size=large, x=0.30, y=0.40, angle=30)"


@pytest.mark.parametrize(
    "text", ["draw()", "add(shape=blob, colour=red, size=large, x=0.3, y=0.4, angle=3)",
             "add(shape=square, colour=red, size=large, x=1.3, y=0.4, angle=3)",
             "add(shape=square, colour=red, size=large, x=0.3, y=0.4)"],
)  # fmt: skip
def test_what_is_no_program_is_none(text):
    assert programs.parse(text) is None


def test_pictures_show_the_angle_and_repeat_after_a_period():
    first, turned, round_ = (render((part(angle=a),), 48) for a in (10.0, 40.0, 100.0))
    assert not np.array_equal(first, turned)
    assert np.array_equal(first, round_)
    heart = [render((part(shape="heart", angle=a),), 48) for a in (0.0, 180.0)]
    assert np.array_equal(np.rot90(heart[0][:, :, 0], 2).shape, heart[1].shape[:2])
    assert not np.array_equal(*heart)


def test_a_point_of_a_triangle_turns_to_the_right():
    up, right = (render((part(shape="triangle", x=0.5, y=0.5, angle=a),), 64) for a in (0.0, 90.0))
    painted = [np.argwhere((image != 152).any(axis=2)) for image in (up, right)]
    assert 32 - painted[0][:, 0].min() > painted[0][:, 0].max() - 32  # the point is above
    assert painted[1][:, 1].max() - 32 > 32 - painted[1][:, 1].min()  # and now on the right


def test_overlap():
    assert overlap(TWO, TWO) == 1
    assert overlap(TWO, ()) == 0
    assert overlap((), ()) == 1
    assert 0 < overlap(TWO, (replace(TWO[0], x=0.34), TWO[1])) < 1
    assert overlap(TWO, (replace(TWO[0], colour="green"), TWO[1])) < 0.6


def test_parts_are_matched_and_scored():
    assert compare(TWO, TWO) == {
        "attributes": 1, "shape": 1, "colour": 1, "size": 1, "position": 0, "angle": 0, "count": 0, "iou": 1,
    }  # fmt: skip
    assert compare(TWO[::-1], TWO)["attributes"] == 1  # whatever the order
    found = compare((replace(TWO[0], x=0.4, size="small"),), TWO)
    assert found["count"] == 1
    assert found["size"] == 0
    assert found["colour"] == 0.5
    assert found["position"] == pytest.approx((0.1 + 0.25) / 2)
    assert compare((*TWO, part(x=0.9)), TWO)["attributes"] == 1


def test_angles_are_compared_within_a_period():
    assert programs.angle_error("square", 89, 2) == 3
    assert programs.angle_error("heart", 350, 20) == 30
    assert programs.angle_error("triangle", 0, 60) == 60


@pytest.mark.parametrize("kind", ["pairs", "stripe"])
def test_only_the_compositional_split_has_what_is_held_out(kind):
    config = ProgramConfig(held_out=kind)
    for split in ("train", "test", "compositional"):
        found = [held_out(p, kind) for n in range(12) for p in program(config, n, split)]
        assert set(found) == {split == "compositional"}


def test_samples_are_scored():
    task = SceneProgram(ProgramConfig(size=32))
    sample = task.sample(1)
    right = task.score(sample, sample.messages[-1]["content"])
    assert right["valid"] == right["attributes"] == right["iou"] == 1
    assert task.score(sample, [{"type": "text", "text": "no"}])["valid"] == 0
    with pytest.raises(ValueError, match="list of text"):
        task.score(sample, "no")


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="parts must be 1 to 6"):
        make("scene_program", most=9)
    with pytest.raises(ValueError, match="held_out must be one of"):
        make("scene_program", held_out="all")
