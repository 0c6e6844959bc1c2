"""The default model: 18M parameters beside a visual tokenizer of 5M.

Its two stages are 507 million ids. ESTIMATED from that number and from measured ids a second of stages in the
model card, not from a run of this recipe: half an hour on one H200 (295,000 ids/s), 31 hours on two cores
that multiply bfloat16 natively (4,500 ids/s). Making the samples takes cores besides: see docs/training.md.
"""

from dataclasses import replace

from unified.train.recipe import (
    DecoderShape,
    DefaultExtras,
    ModelData,
    ModelRecipe,
    ModelShape,
    ModelTokenizers,
    OutputConfig,
)
from unified.train.recipes.nano_sources import FREE_SHARES, FREE_SOURCES, SOURCES, shared
from unified.train.recipes.text_tokenizer import text_tokenizer
from unified.train.recipes.visual_tokenizer import SIDES, visual_tokenizer
from unified.train.stage import (
    BatchConfig,
    LossWeights,
    OptimisationConfig,
    ParameterConfig,
    Stage,
    StageData,
)

PLAIN_SHARES = {
    "scene_caption": 0.02,
    "scene_question": 0.02,
    "scene_quiz": 0.06,
    "scene_study": 0.10,
    "scene_parts": 0.03,
    "scene_plan": 0.04,
    "scene_draw": 0.20,
    "scene_edit": 0.17,
    "scene_conversation": 0.03,
    "maze": 0.06,
    "maze_text": 0.08,
    "world_frames": 0.14,
    "world_actions": 0.02,
    "world_play": 0.02,
    "small_talk": 0.01,
}
FREE = 0.45  # share of the ids in free wording, with varied pictures
EVERYTHING = {**shared(PLAIN_SHARES, 1 - FREE), **shared(FREE_SHARES, FREE)}


def nano() -> ModelRecipe:
    """Width 384, 8 layers; maps of side 1, 2, 4, 8, 16, frames after an action at once. Tokenizers are
    trained first."""
    first = Stage(
        name="first",
        steps=9000,
        data=StageData(mixture=EVERYTHING, samples=0.35, cut=0.9),
        # Folded some 7,000 positions, filled up to 8192: compiled layers see few lengths.
        batch=BatchConfig(rows=2, length=15360, micro_rows=2),
        optimisation=OptimisationConfig(optimiser="muon", learning_rate=3e-3, warmup=300, final=1.0),
        parameters=ParameterConfig(average=0.998),
        # An answer is a few ids beside the hundreds of a picture.
        loss_weights=LossWeights(kinds={"text": 4.0, "action": 3.0}),
    )
    second = replace(
        first,
        name="second",
        steps=7500,
        data=replace(first.data, samples=1.0),
        optimisation=replace(first.optimisation, warmup=50, final=0.0),
        parameters=ParameterConfig(average=0.999),
    )
    return ModelRecipe(
        name="nano",
        tokenizers=ModelTokenizers(
            text=text_tokenizer(), visual=visual_tokenizer(), sides=SIDES, frame_sides=(), merge=16
        ),
        data=ModelData(sources=(*SOURCES, *FREE_SOURCES)),
        model=ModelShape(
            decoder=DecoderShape(width=384, layers=8, heads=6, kv_heads=2, mlp=960),
            default_extras=DefaultExtras(transition=96),
        ),
        stages=(first, second),
        output=OutputConfig(log_every=100, save_every=2000),
    )
