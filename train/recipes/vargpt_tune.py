"""Goes on from VARGPT-v1.1's released weights on pictures with captions of your own."""

from dataclasses import replace

from unified.train.recipe import VARGPTRecipe
from unified.train.recipes.vargpt import tuning, vargpt


def vargpt_tune() -> VARGPTRecipe:
    """One stage of drawing at 512 pixels from VARGPT-v1.1's released weights; the language model stays as it
    is."""
    stage = tuning("tune", 2000, 64, "0.25M")
    return replace(vargpt(), name="vargpt_tune", start="VARGPT-family/VARGPT-v1.1", stages=(stage,))
