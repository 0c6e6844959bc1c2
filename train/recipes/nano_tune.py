"""Goes on from the shipped model on two cores, or from another `nano`: `--override start=FOLDER`."""

from dataclasses import replace
from typing import Any

from unified.train.recipe import ModelData, ModelRecipe, OutputConfig
from unified.train.recipes.nano import nano
from unified.train.recipes.nano_sources import SOURCES
from unified.train.stage import ParameterConfig

from unified.file_names import SHIPPED_NAME

MIXTURE = {
    "scene_caption": 0.02,
    "scene_question": 0.01,
    "scene_quiz": 0.05,
    "scene_study": 0.07,
    "scene_parts": 0.02,
    "scene_plan": 0.03,
    "scene_draw": 0.32,
    "scene_edit": 0.25,
    "scene_conversation": 0.03,
    "maze": 0.03,
    "maze_text": 0.08,
    "world_frames": 0.06,
    "world_actions": 0.01,
    "world_play": 0.01,
    "small_talk": 0.01,
}


def nano_tune() -> ModelRecipe:
    """One stage of small steps at a low rate; tokenizers and shape are those of `start`."""
    recipe = nano()
    first = recipe.stages[0]
    stage = replace(
        first,
        name="tune",
        steps=1600,
        data=replace(first.data, mixture=MIXTURE),
        batch=replace(first.batch, length=4096),
        optimisation=replace(first.optimisation, learning_rate=1e-3, warmup=20, final=0.0),
        parameters=ParameterConfig(average=0.99),
    )
    output = OutputConfig(log_every=10, save_every=100, sheet_every=0)
    data = ModelData(sources=SOURCES)
    own: dict[str, Any] = {"data": data, "start": SHIPPED_NAME, "tokenizers": None, "model": None}
    return replace(recipe, name="nano_tune", stages=(stage,), output=output, **own)
