"""Recipes by name. To add one, write a function that returns a recipe and give it a line here."""

from collections.abc import Callable

from unified.train.recipe import Recipe
from unified.train.recipes.base import base
from unified.train.recipes.extended import extended
from unified.train.recipes.nano import nano
from unified.train.recipes.nano_smoke import nano_smoke
from unified.train.recipes.nano_tune import nano_tune
from unified.train.recipes.nano_words import nano_words
from unified.train.recipes.nano_worlds import nano_worlds
from unified.train.recipes.small import small
from unified.train.recipes.text_tokenizer import text_tokenizer
from unified.train.recipes.vargpt import vargpt
from unified.train.recipes.vargpt_tune import vargpt_tune
from unified.train.recipes.visual_tokenizer import visual_tokenizer

RECIPES: dict[str, Callable[[], Recipe]] = {
    "text_tokenizer": text_tokenizer,
    "visual_tokenizer": visual_tokenizer,
    "nano": nano,
    "nano_tune": nano_tune,
    "nano_words": nano_words,
    "nano_worlds": nano_worlds,
    "small": small,
    "base": base,
    "extended": extended,
    "nano_smoke": nano_smoke,
    "vargpt": vargpt,
    "vargpt_tune": vargpt_tune,
}
