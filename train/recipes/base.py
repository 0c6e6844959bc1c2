"""The recipe of `nano` at 300M parameters, for one or more large GPUs with ZeRO.

Two stages: that of `nano`, then a short one at a low rate on conversations and edits (arXiv 2504.02949 ends
with editing).
"""

from dataclasses import replace

from unified.train.recipe import ModelRecipe, ModelShape
from unified.train.recipes.nano import EVERYTHING, nano
from unified.train.recipes.small import DATA


def base() -> ModelRecipe:
    """Width 1024, 24 layers: about 300M parameters."""
    recipe = nano()
    first = replace(
        recipe.stages[0],
        samples=1.0,
        steps=80000,
        rows=48,
        length=4096,
        micro_rows=6,
        optimiser="adamw",  # ZeRO cuts matrices to pieces
        learning_rate=4e-4,
        warmup=2000,
        final=0.05,
        gradient_checkpointing=True,
    )
    last = replace(
        first,
        name="polish",
        mixture={**EVERYTHING, "scene_edit": 0.3, "scene_conversation": 0.3},
        steps=5000,
        learning_rate=5e-5,
        warmup=200,
    )
    shape = ModelShape(width=1024, layers=24, heads=16, kv_heads=8, transition=256)
    sources = tuple(replace(source, samples=2 * DATA * source.samples) for source in recipe.sources)
    return replace(
        recipe,
        name="base",
        model=shape,
        stages=(first, last),
        sources=sources,
        save_every=1000,
        sheet_every=5000,
    )
