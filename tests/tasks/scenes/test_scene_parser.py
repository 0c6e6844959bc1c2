"""The parser reads rendered scenes back, on pixels alone."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from unified.eval.scene_parser_report import main, measure, wilson
from unified.tasks.scenes.generate import Wish, random_scene
from unified.tasks.scenes.matching import alike, same_place
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import BACKGROUNDS, FILLS, SHAPES, SIZES, Scene, SceneObject


@pytest.fixture(scope="module")
def tallies():
    return measure(150, seed=1)


def test_clean_scenes_are_recovered(tallies):
    clean = tallies["clean"]
    assert clean.recovered / clean.objects >= 0.99
    assert clean.agreed / clean.questions >= 0.98
    assert clean.invented <= 0.01 * clean.objects
    assert clean.backgrounds / clean.scenes >= 0.99


@pytest.mark.parametrize("condition", ["jpeg", "blur", "noise"])
def test_spoilt_scenes_are_recovered(tallies, condition):
    tally = tallies[condition]
    assert tally.recovered / tally.objects >= 0.95


@pytest.mark.slow
@pytest.mark.slow
def test_answers_are_rederived_from_the_pixels_of_two_thousand_scenes():
    tally = measure(2000, seed=2, conditions=("clean",))["clean"]
    print(f"recovered {tally.recovered}/{tally.objects}, agreed {tally.agreed}/{tally.questions}")
    assert tally.scenes == 2000
    assert tally.recovered / tally.objects >= 0.99
    assert tally.agreed / tally.questions >= 0.98


@pytest.mark.parametrize("size", [48, 96, 200, (64, 128), (130, 70)])
def test_other_sizes_are_read(size):
    rng = np.random.default_rng(3)
    right = total = 0
    for _ in range(15):
        scene = random_scene(rng, "train")
        found = parse(render(scene, size)).objects
        pairs = same_place(scene.objects, found, 0.03)
        right += sum(alike(scene.objects[i], found[j]) for i, j in pairs.items())
        total += max(len(scene.objects), len(found))
    assert right >= 0.98 * total


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", FILLS)
def test_every_shape_size_and_fill_is_told_apart(shape, fill):
    for size in SIZES:
        item = SceneObject(shape=shape, colour="blue", size=size, fill=fill, x=0.41, y=0.53)
        found = parse(render(Scene(objects=(item,)))).objects
        assert len(found) == 1
        assert alike(found[0], item)
        assert np.hypot(found[0].x - 0.41, found[0].y - 0.53) < 0.01


def test_touching_objects_of_different_colours_are_taken_apart():
    left = SceneObject(shape="square", colour="red", size="medium", fill="solid", x=0.4, y=0.5)
    right = SceneObject(shape="circle", colour="blue", size="medium", fill="solid", x=0.62, y=0.5)
    found = parse(render(Scene(objects=(left, right)))).objects
    assert [(item.colour, item.shape) for item in found] == [("red", "square"), ("blue", "circle")]


@pytest.mark.parametrize("background", ["grey", "slate"])
def test_an_empty_picture_has_no_objects(background):
    assert parse(render(Scene(background=background, texture="speckle", texture_seed=5))) == Scene(
        background=background
    )


def test_pure_noise_and_flat_colour_are_read_without_a_crash():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert isinstance(parse(noise), Scene)
    assert isinstance(parse(np.full((64, 64, 3), 255, np.uint8)), Scene)
    assert isinstance(parse(np.zeros((64, 64, 3), np.uint8)), Scene)
    stripe = np.full((64, 64, 3), 255, np.uint8)
    stripe[:, 30:33] = BACKGROUNDS["grey"]
    assert isinstance(parse(stripe), Scene)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64, 3)),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((8, 64, 3), np.uint8),
        [[0, 0, 0]],
    ],
)
def test_bad_image_is_refused_in_one_line(image):
    with pytest.raises(ValueError, match="an image must be uint8") as error:
        parse(image)
    assert "\n" not in str(error.value)


def test_parsing_is_fast():
    rng = np.random.default_rng(0)
    images = [render(random_scene(rng, "train", Wish(least=3))) for _ in range(60)]
    for image in images:  # draws the templates
        parse(image)
    start = time.process_time()
    for image in images:
        parse(image)
    assert (time.process_time() - start) / len(images) < 0.03  # about 5 ms where nothing else runs


def test_the_interval_is_wilsons():
    assert wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_command_prints_figures_and_writes_them(tmp_path):
    file = tmp_path / "report.json"
    command = [
        sys.executable,
        "-m",
        "unified.eval.scene_parser_report",
        "--scenes",
        "12",
        "--json",
        str(file),
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for condition in ("clean", "jpeg", "blur", "noise"):
        assert f"{condition}: 12 scenes" in printed
    figures = json.loads(file.read_text())["conditions"]
    assert figures["clean"]["recovered_rate"] >= 0.99


@pytest.mark.parametrize(
    "arguments",
    [["--scenes", "0"], ["--scenes", "x"], ["--size", "4"], ["--json", "/nowhere/x.json"], ["--what"]],
)
def test_the_command_refuses_bad_arguments_in_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
