"""Descriptions, drawing and random scenes."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unified.tasks.sample import SPLITS
from unified.tasks.scenes.generate import HELD_OUT, LATTICE, Wish, belongs, fits, random_scene, settled
from unified.tasks.scenes.relations import CELL_NAMES, bounds, cell
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import BACKGROUNDS, COLOURS, FILLS, SHAPES, SIZES, VALUES, Scene, SceneObject
from unified.tasks.scenes.shapes import coverage

RED_CIRCLE = SceneObject(shape="circle", colour="red", size="large", fill="solid", x=0.5, y=0.5)

objects = st.builds(
    SceneObject,
    **{name: st.sampled_from(values) for name, values in VALUES.items()},
    x=st.floats(0, 1),
    y=st.floats(0, 1),
)
scenes = st.builds(
    Scene, background=st.sampled_from(tuple(BACKGROUNDS)), objects=st.lists(objects, max_size=6).map(tuple)
)


def test_the_vocabulary_is_as_large_as_promised():
    assert len(SHAPES) >= 6
    assert len(COLOURS) >= 8
    assert len(SIZES) == 3
    assert len(FILLS) == 2


@given(scenes)
def test_json_round_trip(scene):
    assert Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


@given(scenes)
def test_canonical_form_ignores_order_and_ground(scene):
    other = Scene(background="slate", texture="checker", texture_seed=3, objects=scene.objects[::-1])
    assert other.canonical() == scene.canonical()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": "blob"}, "unknown shape 'blob'"),
        ({"colour": "mud"}, "unknown colour 'mud'"),
        ({"x": 1.5}, "x must be a number from 0 to 1"),
        ({"y": float("nan")}, "y must be a number from 0 to 1"),
        ({"weight": 3}, "not the data of an object"),
    ],
)
def test_bad_object_is_refused_in_one_line(change, message):
    data = {**Scene(objects=(RED_CIRCLE,)).to_json()}
    data["objects"] = [{**data["objects"][0], **change}]
    with pytest.raises(ValueError, match=message) as error:
        Scene.from_json(data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "data", [{}, {"objects": 3}, [], {"objects": [], "sky": "blue"}, {"objects": [], "background": "sky"}]
)
def test_bad_scene_is_refused(data):
    with pytest.raises(ValueError, match=r"not the data of a scene|unknown background"):
        Scene.from_json(data)


@pytest.mark.parametrize("size", [0, 15, 5000, -3, 64.0, "64", (64,), (64, 8), True])
def test_bad_size_is_refused(size):
    with pytest.raises(ValueError, match="size must be a side"):
        render(Scene(), size)


@pytest.mark.parametrize("size", [16, 64, 65, 256, (48, 96)])
def test_any_size_is_drawn(size):
    image = render(Scene(objects=(RED_CIRCLE,)), size)
    height, width = (size, size) if isinstance(size, int) else size
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert tuple(image[height // 2, width // 2]) == COLOURS["red"]
    assert tuple(image[0, 0]) == BACKGROUNDS["grey"]


def test_edges_are_anti_aliased():
    greens = np.unique(render(Scene(objects=(RED_CIRCLE,)), 64)[:, :, 1])
    assert len(greens) > 8  # many mixtures between ground and colour


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", FILLS)
def test_coverage_agrees_with_counting_fine_samples(shape, fill):
    coarse = coverage(shape, fill, 8.0, (16.3, 15.6), 32, 32)
    fine = coverage(shape, fill, 8.0, (16.3, 15.6), 32, 32, supersampling=12)
    assert np.abs(coarse - fine).max() < 0.12
    assert abs(coarse.sum() - fine.sum()) < 0.01 * fine.sum()


def test_an_outline_shows_the_ground_inside():
    ring = SceneObject(shape="circle", colour="red", size="large", fill="outline", x=0.5, y=0.5)
    assert tuple(render(Scene(objects=(ring,)), 64)[32, 32]) == BACKGROUNDS["grey"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SPLITS))
def test_random_scenes_fit_and_belong_to_their_split_alone(seed, split):
    scene = random_scene(np.random.default_rng(seed), split)
    assert fits(scene)
    assert [name for name in SPLITS if belongs(scene, name)] == [split]


def test_numbers_of_objects_are_even_and_held_out_pairs_stay_out():
    rng = np.random.default_rng(0)
    drawn = [random_scene(rng, "train") for _ in range(600)]
    numbers = Counter(len(scene.objects) for scene in drawn)
    assert set(numbers) == {1, 2, 3, 4, 5, 6}
    assert min(numbers.values()) > 60
    pairs = Counter((item.shape, item.colour) for scene in drawn for item in scene.objects)
    assert not set(pairs) & HELD_OUT
    assert len(pairs) == len(SHAPES) * len(COLOURS) - len(HELD_OUT)  # every other pair does occur


def test_every_held_out_pair_occurs_in_the_compositional_split():
    rng = np.random.default_rng(0)
    drawn = [random_scene(rng, "compositional") for _ in range(300)]
    assert {(item.shape, item.colour) for scene in drawn for item in scene.objects} >= HELD_OUT


def test_no_object_is_hidden_by_another():
    rng = np.random.default_rng(4)
    for _ in range(40):
        scene = random_scene(rng, "train", Wish(least=4))
        masks = [render(Scene(objects=(item,)), 64) != render(Scene(), 64) for item in scene.objects]
        assert sum(mask.any(axis=2).astype(int) for mask in masks).max() == 1


def test_settled_objects_keep_their_cells_and_alone_stand_at_the_middle():
    rng = np.random.default_rng(7)
    for _ in range(60):
        scene = random_scene(rng, "train", Wish(most=4))
        calm = settled(scene)
        assert fits(calm)
        assert [cell(item) for item in calm.objects] == [cell(item) for item in scene.objects]
        moved = [item for item in calm.objects if item not in scene.objects]
        assert all((at * LATTICE).is_integer() for item in moved for at in (item.x, item.y))
    for name in CELL_NAMES:
        left, right, top, bottom = bounds(name)
        small = replace(scene.objects[0], size="small", x=left + 0.12, y=top + 0.12)
        item = settled(Scene(objects=(small,))).objects[0]
        assert max(abs(item.x - (left + right) / 2), abs(item.y - (top + bottom) / 2)) <= 0.5 / LATTICE


def test_settled_scenes_belong_to_their_split():
    rng = np.random.default_rng(8)
    for split in ("train", "test", "compositional"):
        for _ in range(20):
            scene = random_scene(rng, split, Wish(most=2, settled=1.0))
            places = [at * LATTICE for item in scene.objects for at in (item.x, item.y)]
            assert all(at.is_integer() for at in places)
            assert belongs(scene, split)


def test_the_same_description_gives_the_same_bytes_in_any_thread():
    drawn = [random_scene(np.random.default_rng(i), "train") for i in range(24)]
    alone = [render(scene).tobytes() for scene in drawn]
    with ThreadPoolExecutor(4) as pool:
        assert [image.tobytes() for image in pool.map(render, drawn)] == alone


def test_different_places_give_different_pixels():
    places = [
        SceneObject(shape="circle", colour="red", size="small", fill="solid", x=0.5, y=y / 256)
        for y in range(90, 160)
    ]
    images = {render(Scene(objects=(item,)), 64).tobytes() for item in places}
    assert len(images) == len(places)


@pytest.mark.parametrize(
    "wish", [{"least": 0}, {"most": 7}, {"least": 4, "most": 3}, {"shared": ("weight",)}]
)
def test_bad_wish_is_refused(wish):
    with pytest.raises(ValueError, match="objects"):
        Wish(**wish)
