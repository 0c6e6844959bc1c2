"""Goes on from the shipped model with requests in free wording, pictures drawn by other hands, small talk and
conversations in which commands follow anything, beside the plain wording and clips of the block world."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unified.tasks.worlds.clips import PROBED
from unified.train.recipe import ModelData, ModelRecipe, Source
from unified.train.recipes.nano_sources import FREE_SHARES, FREE_SOURCES, SOURCES, shared
from unified.train.recipes.nano_tune import nano_tune

SEED = 60  # of samples that no earlier stage of the shipped model saw
STEPS = 750  # that the samples are enough for, each seen about once
SHARE = 0.4  # of them, and of the samples, in the stage: about an hour on two cores without bfloat16
ROWS, LENGTH = 2, 4096  # of a step
# Mean length of a sample, as `prepare` finds it.
MEAN_IDS = {
    "free_scene_draw": 1216,
    "free_scene_edit": 1208,
    "free_scene_study": 769,
    "free_scene_parts": 328,
    "free_scene_plan": 193,
    "free_scene_chat": 1097,
    "free_scene_question": 280,
    "free_scene_caption": 295,
    "free_maze": 1833,
    "free_maze_text": 667,
    "free_small_talk": 39,
    "unknown_picture": 320,
    "scene_draw": 1208,
    "scene_edit": 1145,
    "scene_study": 765,
    "maze": 1856,
    "maze_text": 689,
    "scene_conversation": 1693,
    "world_frames": 2405,
    "world_actions": 1361,
    "world_play": 1110,
}
PLAIN_SHARES = {
    "scene_draw": 0.04,
    "scene_edit": 0.035,
    "scene_study": 0.035,
    "maze": 0.015,
    "maze_text": 0.02,
    "scene_conversation": 0.005,
}
WORLDS = {"world_frames": 0.13, "world_actions": 0.01, "world_play": 0.01}
MIXTURE = {**shared(FREE_SHARES, 0.7), **PLAIN_SHARES, **WORLDS}
CLIPS: dict[str, Mapping[str, Any]] = {
    "world_frames": {"frames": 5, "players": list(PROBED)},
    "world_actions": {"frames": 5, "players": list(PROBED)},
    "world_play": {"frames": 5},
}


def nano_words() -> ModelRecipe:
    """One stage of small steps at a low rate. Every sample is seen about once; with more time
    `stages.0.steps=750 stages.0.samples=1` has all of them."""
    recipe = nano_tune()
    sources = tuple(_once(source) for source in (*FREE_SOURCES, *SOURCES) if source.label in MIXTURE)
    (stage,) = recipe.stages
    stage = replace(
        stage,
        name="words",
        steps=round(SHARE * STEPS),
        data=replace(stage.data, mixture=MIXTURE, samples=SHARE, coarse={}),
        batch=replace(stage.batch, rows=ROWS, micro_rows=ROWS, length=LENGTH),
        optimisation=replace(stage.optimisation, learning_rate=1.5e-3, warmup=15),
        parameters=replace(stage.parameters, average=0.98),
    )
    return replace(recipe, name="nano_words", seed=SEED, data=ModelData(sources=sources), stages=(stage,))


def _once(source: Source) -> Source:
    """The source with as many samples as the stage draws from it."""
    name = source.label
    options: Mapping[str, Any] = CLIPS.get(name, source.options)
    samples = round(MIXTURE[name] * STEPS * ROWS * LENGTH / MEAN_IDS[name])
    return replace(source, samples=max(1, samples), options=options)
