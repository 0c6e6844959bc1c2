"""The recipe of `nano` at 300M parameters, for one or more large GPUs with ZeRO.

Three stages: those of `nano`, then a short one at a low rate on conversations and edits (arXiv 2504.02949
ends with editing).
"""

from dataclasses import replace

from unified.train.recipe import ModelRecipe, ModelShape
from unified.train.recipes.nano import EVERYTHING, nano


def base() -> ModelRecipe:
    """Width 1024, 24 layers: about 300M parameters."""
    recipe = nano()
    first, second = (
        replace(
            s,
            steps=40000,
            rows=16 * s.rows,
            micro_rows=16,
            learning_rate=s.learning_rate / 5,
            warmup=2000,
            gradient_checkpointing=True,
        )
        for s in recipe.stages
    )
    last = replace(
        second,
        name="polish",
        mixture={**EVERYTHING, "scene_edit": 0.3, "scene_conversation": 0.3},
        mixture_end={},
        steps=5000,
        learning_rate=5e-5,
        warmup=200,
    )
    shape = ModelShape(width=1024, layers=24, heads=16, kv_heads=8)
    return replace(
        recipe, name="base", model=shape, stages=(first, second, last), save_every=1000, sheet_every=5000
    )
