"""Goes on from a `nano` on two cores, for an hour and a half: `--override start=FOLDER`."""

from dataclasses import replace

from unified.train.recipe import ModelRecipe
from unified.train.recipes.nano import nano

MIXTURE = {
    "scene_caption": 0.02,
    "scene_question": 0.04,
    "scene_quiz": 0.22,
    "scene_draw": 0.20,
    "scene_edit": 0.17,
    "scene_conversation": 0.04,
    "maze": 0.10,
    "maze_text": 0.02,
    "world_frames": 0.15,
    "world_actions": 0.01,
    "world_play": 0.01,
    "small_talk": 0.02,
}


def nano_tune() -> ModelRecipe:
    """One stage of small steps."""
    recipe = nano()
    stage = replace(
        recipe.stages[0],
        name="tune",
        mixture=MIXTURE,
        steps=1750,
        rows=2,
        length=6144,
        micro_rows=2,
        learning_rate=1e-3,
        warmup=50,
        final=0.0,
        average=0.995,
    )
    return replace(recipe, name="nano_tune", stages=(stage,), log_every=25, save_every=125, sheet_every=0)
