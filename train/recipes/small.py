"""The recipe of `nano` at 60M parameters, for one GPU."""

from dataclasses import replace

from unified.train.recipe import DecoderShape, DefaultExtras, ModelData, ModelRecipe, ModelShape
from unified.train.recipes.nano import nano

DATA = 3  # times as many samples


def small() -> ModelRecipe:
    """Width 512, 20 layers: about 60M parameters."""
    recipe = nano()
    first = recipe.stages[0]
    stage = replace(
        first,
        name="all",
        steps=40000,
        data=replace(first.data, samples=1.0),
        optimisation=replace(first.optimisation, learning_rate=1e-3, warmup=1000, final=0.01),
    )
    shape = ModelShape(
        decoder=DecoderShape(width=512, layers=20, heads=8, kv_heads=4),
        default_extras=DefaultExtras(transition=128),
    )
    return replace(
        recipe,
        name="small",
        data=more(recipe.data, DATA),
        model=shape,
        stages=(stage,),
        output=replace(recipe.output, save_every=1000, sheet_every=2000),
    )


def more(data: ModelData, times: int) -> ModelData:
    """The same sources with so many times as many samples."""
    sources = tuple(replace(source, samples=times * source.samples) for source in data.sources)
    return replace(data, sources=sources)
