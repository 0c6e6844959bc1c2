"""Teaches an extended image-text model to draw, in stages (VARGPT-v1.1, arXiv 2504.02949): new parts, then
adapters beside the decoder's matrices, then all of it. `unified extend FOLDER --out extended` makes the model
that it goes on from; another one: `--override start=DIR`."""

from dataclasses import replace

from unified.train.recipe import ModelData, ModelRecipe, OutputConfig, Source
from unified.train.recipes.nano_sources import DRAWN, SOURCES
from unified.train.stage import BatchConfig, OptimisationConfig, ParameterConfig, Stage, StageData

TASKS = ("scene_caption", "scene_question", "scene_edit", "scene_conversation", "world_frames", "small_talk")
MIXTURE = {
    "scene_draw": 0.4,
    "scene_edit": 0.2,
    "scene_caption": 0.05,
    "scene_question": 0.05,
    "scene_conversation": 0.1,
    "world_frames": 0.15,
    "small_talk": 0.05,
}
DRAWING = {"scene_draw": 0.8, "world_frames": 0.2}


def extended() -> ModelRecipe:
    """Three stages for one large GPU. After the first and the second the pretrained weights are untouched:
    the result is what was added, and adapters."""
    new = Stage(
        name="new",
        steps=2000,
        data=StageData(mixture=DRAWING),
        batch=BatchConfig(rows=16, length=4096, micro_rows=4),
        optimisation=OptimisationConfig(learning_rate=1e-3, warmup=100),
        parameters=ParameterConfig(trains=("new",)),
    )
    adapters = replace(
        new,
        name="adapters",
        steps=6000,
        data=StageData(mixture=MIXTURE),
        optimisation=OptimisationConfig(learning_rate=3e-4, warmup=100),
        parameters=ParameterConfig(trains=("new", "lora"), adapter=64),
    )
    everything = replace(
        adapters,
        name="all",
        steps=4000,
        batch=replace(new.batch, gradient_checkpointing=True),
        optimisation=OptimisationConfig(learning_rate=2e-5, warmup=100),
        parameters=ParameterConfig(trains=("all",)),
    )
    drawn = Source(task="scene_draw", samples=120000, options=DRAWN)
    return ModelRecipe(
        name="extended",
        start="extended",
        tokenizers=None,
        model=None,
        data=ModelData(sources=(drawn, *(source for source in SOURCES if source.task in TASKS))),
        stages=(new, adapters, everything),
        output=OutputConfig(log_every=50, save_every=1000),
    )
