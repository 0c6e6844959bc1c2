"""The recipe of `nano` at 60M parameters, for one GPU."""

from dataclasses import replace

from unified.train.recipe import ModelRecipe, ModelShape
from unified.train.recipes.nano import nano

DATA = 3  # times as many samples


def small() -> ModelRecipe:
    """Width 512, 20 layers: about 60M parameters."""
    recipe = nano()
    stage = replace(
        recipe.stages[0], name="all", samples=1.0, steps=40000, learning_rate=1e-3, warmup=1000, final=0.01
    )
    shape = ModelShape(width=512, layers=20, heads=8, kv_heads=4, transition=128)
    sources = tuple(replace(source, samples=DATA * source.samples) for source in recipe.sources)
    return replace(
        recipe, name="small", model=shape, stages=(stage,), sources=sources, save_every=1000, sheet_every=2000
    )
