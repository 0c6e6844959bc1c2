"""Goes on from the shipped model with clips of fast turns, other hotbar slots, menus, standing still, and
looking away and back, beside a little of everything else, so that it is not forgotten."""

from dataclasses import replace

from unified.tasks.worlds.clips import PROBED
from unified.train.recipe import ModelData, ModelRecipe, Source
from unified.train.recipes.nano_tune import MIXTURE, nano_tune

FRAMES = 5  # of a clip, as those of `nano`
PART = 20  # of the other sources a twentieth is made
OTHERS = 0.3  # share of the ids
WORLDS = {"world_frames": 0.62, "world_actions": 0.04, "world_play": 0.04}


def nano_worlds() -> ModelRecipe:
    """One stage of small steps, seven in ten ids from the block world."""
    recipe = nano_tune()
    options = {"frames": FRAMES, "players": list(PROBED)}
    sources = [
        replace(source, samples=max(1, source.samples // PART))
        for source in recipe.data.sources
        if source.label not in WORLDS
    ]
    sources += [
        Source(task="world_frames", samples=6000, options=options),
        Source(task="world_actions", samples=600, options=options),
        Source(task="world_play", samples=600, options={"frames": FRAMES}),
    ]
    rest = {name: share for name, share in MIXTURE.items() if name not in WORLDS}
    total = sum(rest.values())
    mixture = {**WORLDS, **{name: round(OTHERS * share / total, 4) for name, share in rest.items()}}
    (stage,) = recipe.stages
    stage = replace(stage, name="worlds", steps=400, data=replace(stage.data, mixture=mixture))
    return replace(recipe, name="nano_worlds", data=ModelData(sources=tuple(sources)), stages=(stage,))
