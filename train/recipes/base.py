"""The recipe of `nano` at 300M parameters, for one or more large GPUs with ZeRO.

Two stages: that of `nano`, then a short one at a low rate on conversations and edits (arXiv 2504.02949 ends
with editing).
"""

from dataclasses import replace

from unified.train.recipe import DecoderShape, DefaultExtras, ModelRecipe, ModelShape
from unified.train.recipes.nano import EVERYTHING, nano
from unified.train.recipes.small import DATA, more
from unified.train.stage import BatchConfig, OptimisationConfig


def base() -> ModelRecipe:
    """Width 1024, 24 layers: about 300M parameters."""
    recipe = nano()
    first = recipe.stages[0]
    first = replace(
        first,
        steps=80000,
        data=replace(first.data, samples=1.0),
        batch=BatchConfig(rows=48, length=4096, micro_rows=6, gradient_checkpointing=True),
        # ZeRO cuts matrices to pieces: no Muon.
        optimisation=OptimisationConfig(optimiser="adamw", learning_rate=4e-4, warmup=2000, final=0.05),
    )
    edits = {**EVERYTHING, "scene_edit": 0.3, "scene_conversation": 0.3}
    last = replace(
        first,
        name="polish",
        steps=5000,
        data=replace(first.data, mixture=edits),
        optimisation=replace(first.optimisation, learning_rate=5e-5, warmup=200),
    )
    shape = ModelShape(
        decoder=DecoderShape(width=1024, layers=24, heads=16, kv_heads=8),
        default_extras=DefaultExtras(transition=256),
    )
    return replace(
        recipe,
        name="base",
        data=more(recipe.data, 2 * DATA),
        model=shape,
        stages=(first, last),
        output=replace(recipe.output, save_every=1000, sheet_every=5000),
    )
