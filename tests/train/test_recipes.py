"""Recipes, overrides, and what the command says to bad input."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
from unified.train.__main__ import main
from unified.train.aliases import ALIASES
from unified.train.build import first_model
from unified.train.override import override
from unified.train.recipe import ModelRecipe
from unified.train.recipes import RECIPES
from unified.train.stage import Stage, StageData
from unified.train.stored import completed, regrouped, to_json

from unified.stream.vocabulary import Vocabulary


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_tree_of_plain_data(name):
    data = json.loads(to_json(RECIPES[name]()))
    assert data["name"] == name
    assert data["recipe"].endswith("Recipe")


@pytest.mark.parametrize(("name", "low", "high"), [("nano", 14, 20), ("small", 50, 70), ("base", 250, 320)])
def test_presets_have_the_size_they_promise(name, low, high):
    with torch.device("meta"):
        model = first_model(RECIPES[name]().model, Vocabulary(text=1024, visual=1024, action=188), 0)
    assert low < sum(p.numel() for p in model.parameters()) / 1e6 < high


def test_overrides_reach_every_kind_of_node():
    settings = [
        "seed=3",
        "stages.0.steps=7",
        "stages.0.learning_rate=1",
        'stages.0.trains=["heads","visual"]',
        "stages.0.mixture.scene_draw=0.5",
        "visual.network.encoder.width=64",
        "visual.training.restarts=null",
        "tokenizers.sides=[1, 2, 4]",
        "stages.0.batch.length=512",
        "text=bytes",
    ]
    recipe = override(RECIPES["nano_smoke"](), settings)
    stage = recipe.stages[0]
    assert (recipe.seed, stage.steps, stage.optimisation.learning_rate) == (3, 7, 1.0)
    assert stage.parameters.trains == ("heads", "visual")
    assert stage.data.mixture["scene_draw"] == 0.5
    assert recipe.tokenizers.visual.network.encoder.width == 64
    assert recipe.tokenizers.visual.training.restarts is None
    assert recipe.tokenizers.text == "bytes"
    assert recipe.tokenizers.sides == (1, 2, 4)
    assert stage.batch.length == 512


# Names from before fields were grouped ----------------------------------------------------------------------


def nodes(node, path=()):
    """Every dataclass of a recipe with its path."""
    if isinstance(node, tuple):
        children = enumerate(node)
    elif is_dataclass(node):
        yield node, path
        children = ((item.name, getattr(node, item.name)) for item in fields(node))
    else:
        children = ()
    for name, child in children:
        yield from nodes(child, (*path, str(name)))


@pytest.mark.parametrize("kind", ALIASES)
def test_an_old_name_is_a_field_of_one_group_and_no_field_of_its_own(kind):
    made = next(node for node, _ in nodes(RECIPES["nano_smoke"]()) if type(node).__name__ == kind)
    known = {item.name for item in fields(made)}
    assert not known & ALIASES[kind].keys()
    for group, name in ALIASES[kind].values():
        assert group in known
        assert name in {item.name for item in fields(getattr(made, group))}
    assert len(set(ALIASES[kind].values())) == len(ALIASES[kind])


def test_every_field_of_a_group_is_reached_by_the_name_it_had():
    recipe, count = RECIPES["nano_smoke"](), 0
    for node, path in nodes(recipe):
        for old, (group, name) in ALIASES.get(type(node).__name__, {}).items():
            value = getattr(getattr(node, group), name)
            if isinstance(value, bool | int | float | str):
                other = json.dumps(not value if isinstance(value, bool) else value)
                flat, nested = (".".join((*path, *last)) for last in ((old,), (group, name)))
                assert override(recipe, [f"{flat}={other}"]) == override(recipe, [f"{nested}={other}"])
                count += isinstance(value, bool)
    assert count == 6
    assert override(recipe, ["stages.0.final=0.5"]).stages[0].optimisation.final == 0.5
    weighted = override(recipe, ['stages.0.kind_weights={"text": 2}', "stages.0.task_weights.small_talk=3"])
    assert weighted.stages[0].loss_weights.kinds == {"text": 2.0}
    assert weighted.stages[0].loss_weights.tasks == {"small_talk": 3.0}


FLAT = Path(__file__).with_name("nano_smoke_before_groups.json")  # what `show nano_smoke` printed before


def test_a_recipe_stored_before_there_were_groups_is_the_same_recipe():
    stored, recipe = json.loads(FLAT.read_text()), RECIPES["nano_smoke"]()
    wanted = json.loads(to_json(recipe))
    assert stored["stages"][0]["learning_rate"] == wanted["stages"][0]["optimisation"]["learning_rate"]
    assert completed(stored, recipe) == wanted
    assert completed(wanted, recipe) == wanted
    stored["stages"][0]["warmup"] += 1
    assert completed(stored, recipe) != wanted


def test_fields_move_into_groups_that_are_there_or_not():
    stored = {"name": "a", "steps": 3, "final": 0.5, "kind_weights": {"text": 2.0}, "data": {"cut": 0.5}}
    assert regrouped({**stored, "mixture": {"maze": 1}}, "Stage") == {
        "name": "a",
        "steps": 3,
        "data": {"mixture": {"maze": 1}, "cut": 0.5},
        "optimisation": {"final": 0.5},
        "loss_weights": {"kinds": {"text": 2.0}},
    }
    assert regrouped(stored, "Source") == stored


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("sed=3", "unknown key 'sed'"),
        ("stages.0.step=3", "unknown key 'step'"),
        ("stages.0.batch.row=3", "unknown key 'row'"),
        ("stages.0.batch=3", "expected a BatchConfig (set its parts)"),
        ("stages.4.steps=3", "'4' is not a number from 0 to 0"),
        ("stages.0.steps=many", "expected a whole number"),
        ("stages.0.steps=1.5", "expected a whole number"),
        ("stages.0.steps=0", "at least 1"),
        ("stages.0.samples=0", "samples must lie in"),
        ("stages.0.bf16=1", "expected true or false"),
        ('stages.0.trains=["soul"]', "trains names 'soul'"),
        ("stages.0.mixture.maze=1", "not among the sources"),
        ("keep=1", "keep must be at least 2"),
        ("seed.deep=1", "leads nowhere"),
        ("steps", "PATH=VALUE"),
    ],
)
def test_a_bad_override_is_one_line_and_status_2(setting, words, capsys):
    assert main(["nano_smoke", "--override", setting]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["nono"],
        ["fly", "nano"],
        ["nano_smoke", "--deepspeed", "zero9"],
        ["nano_smoke", "--resume", "/nowhere"],
        ["prepare", "text_tokenizer"],
        ["nano_smoke", "--override", "text=/nowhere"],
    ],
)
def test_a_bad_command_is_one_line_and_status_2(arguments, capsys, tmp_path):
    assert main([*arguments, "--out", str(tmp_path / "out"), "--cpu"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_curriculum_moves_from_one_mixture_to_the_other():
    data = StageData(
        mixture={"scene_draw": 2.0, "small_talk": 2.0},
        mixture_end={"scene_draw": 1.0, "scene_question": 1.0},
    )
    stage = Stage(data=data, steps=11)
    assert stage.shares(0) == {"scene_draw": 0.5, "small_talk": 0.5, "scene_question": 0.0}
    assert stage.shares(10) == {"scene_draw": 0.5, "small_talk": 0.0, "scene_question": 0.5}
    assert sum(stage.shares(4).values()) == pytest.approx(1)


def test_every_stage_of_a_preset_fits_one_and_two_processes():
    from unified.train.settings import micro_rows

    for make in RECIPES.values():
        if isinstance(recipe := make(), ModelRecipe):
            for stage in recipe.stages:
                for processes in (1, 2):
                    assert stage.batch.rows % (processes * micro_rows(stage, processes)) == 0


def test_a_recipe_chooses_the_extras_of_its_model():
    recipe = override(RECIPES["nano_smoke"](), ["model.transition=4", "model.references=false"])
    grid = {"frequencies": 3}
    recipe = override(recipe, [f"model.extras={json.dumps({'grid': grid})}"])
    found = {}
    for merge in (0, 2):
        vocabulary = Vocabulary(merge=merge)
        found[merge] = first_model(recipe.model, vocabulary, 0).config.extras
    assert found[0] == {"copy_gate": {}, "transition": {"channels": 4}, "grid": grid}
    assert found[2] == {**found[0], "own_state": {}}
