"""Goes on from the shipped model with requests in free wording, pictures drawn by other hands, small talk and
conversations in which commands follow anything, beside the old wording and clips of the block world."""

from dataclasses import replace
from typing import Any

from unified.tasks.worlds.clips import PROBED
from unified.train.recipe import ModelData, ModelRecipe, Source
from unified.train.recipes.nano import DRAWN, MAZES, MIXED, PROMPTS
from unified.train.recipes.nano_tune import nano_tune

SEED = 60  # of samples that no earlier stage of the shipped model saw
FREE = {"wording": "free", "renderer": "varied"}


def free(task: str, samples: int, **options: Any) -> Source:
    """A source in free wording, with varied pictures, under a name of its own."""
    return Source(task=task, name=f"free_{task}", samples=samples, options={**options, **FREE})


FREE_SOURCES = (
    free("scene_draw", 1500, **DRAWN),
    free("scene_edit", 1500, most=4, settled=0.5, stepwise=1.0),
    free("scene_study", 3000),
    free("scene_parts", 3000),
    free("scene_plan", 4000, most=3, categories=PROMPTS, **MIXED),
    free("scene_chat", 1500, most=4, **MIXED),
    free("scene_question", 1000),
    free("scene_caption", 500),
    free("maze", 500, **MAZES),
    free("maze_text", 1500, **MAZES),
    Source(task="small_talk", name="free_small_talk", samples=6000, options={"wording": "free"}),
    Source(task="unknown_picture", samples=1500),
)
FREE_SHARES = {
    "free_scene_draw": 0.13,
    "free_scene_edit": 0.14,
    "free_scene_study": 0.13,
    "free_scene_parts": 0.05,
    "free_scene_plan": 0.06,
    "free_scene_chat": 0.09,
    "free_scene_question": 0.015,
    "free_scene_caption": 0.01,
    "free_maze": 0.02,
    "free_maze_text": 0.05,
    "free_small_talk": 0.015,
    "unknown_picture": 0.02,
}
OLD_SHARES = {
    "scene_draw": 0.04,
    "scene_edit": 0.035,
    "scene_study": 0.035,
    "maze": 0.015,
    "maze_text": 0.02,
    "scene_conversation": 0.005,
}
OLD_SAMPLES = {
    "scene_draw": 500,
    "scene_edit": 400,
    "scene_study": 500,
    "maze": 200,
    "maze_text": 400,
    "scene_conversation": 100,
}
WORLDS = {"world_frames": 0.13, "world_actions": 0.01, "world_play": 0.01}
CLIPS = {"frames": 5, "players": list(PROBED)}


def nano_words() -> ModelRecipe:
    """One stage of small steps at a low rate. Sized for an hour on two cores; every sample is seen about
    once."""
    recipe = nano_tune()
    old = [
        replace(source, samples=OLD_SAMPLES[source.label])
        for source in recipe.data.sources
        if source.label in OLD_SAMPLES
    ]
    worlds = [
        Source(task="world_frames", samples=900, options=CLIPS),
        Source(task="world_actions", samples=100, options=CLIPS),
        Source(task="world_play", samples=100, options={"frames": 5}),
    ]
    (stage,) = recipe.stages
    mixture = {**FREE_SHARES, **OLD_SHARES, **WORLDS}
    stage = replace(
        stage,
        name="words",
        steps=1200,
        data=replace(stage.data, mixture=mixture, samples=1.0, coarse={}),
        batch=replace(stage.batch, rows=1, micro_rows=1, length=9216),
        optimisation=replace(stage.optimisation, learning_rate=1.5e-3, warmup=15, final=0.0),
        parameters=replace(stage.parameters, average=0.98),
    )
    sources = (*FREE_SOURCES, *old, *worlds)
    return replace(recipe, name="nano_words", seed=SEED, data=ModelData(sources=sources), stages=(stage,))
