"""The default model: 7M parameters beside a visual tokenizer of 1.8M, for two cores or one GPU."""

from unified.train.recipe import ModelRecipe, ModelShape, Source, Stage
from unified.train.recipes.text_tokenizer import text_tokenizer
from unified.train.recipes.visual_tokenizer import visual_tokenizer

SOURCES = (
    Source(task="scene_caption", samples=20000),
    Source(task="scene_question", samples=60000),
    Source(task="scene_draw", samples=60000, options={"most": 3}),
    Source(task="scene_edit", samples=40000, options={"most": 3}),
    Source(task="scene_conversation", samples=20000, options={"most": 4}),
    Source(task="maze", samples=30000),
    Source(task="maze_text", samples=10000),
    Source(task="world_frames", samples=16000, options={"frames": 5}),
    Source(task="world_actions", samples=8000, options={"frames": 6}),
    Source(task="world_play", samples=4000, options={"frames": 6}),
    Source(task="small_talk", samples=10000),
)
SCENES = {
    "scene_caption": 0.10,
    "scene_question": 0.26,
    "scene_draw": 0.36,
    "scene_edit": 0.20,
    "maze_text": 0.02,
    "world_actions": 0.02,
    "small_talk": 0.04,
}
EVERYTHING = {
    "scene_caption": 0.04,
    "scene_question": 0.18,
    "scene_draw": 0.20,
    "scene_edit": 0.15,
    "scene_conversation": 0.09,
    "maze": 0.12,
    "maze_text": 0.02,
    "world_frames": 0.12,
    "world_actions": 0.04,
    "world_play": 0.02,
    "small_talk": 0.02,
}


def nano() -> ModelRecipe:
    """Width 256, 8 layers; maps of side 1, 2, 4, 6, 8. Tokenizers are trained first."""
    short = Stage(
        name="short",  # attention is most of the cost: what fits half a row comes first
        mixture=SCENES,
        kind_weights={"text": 2.0},  # an answer is a few ids beside the hundred of a picture
        steps=6000,
        rows=16,
        length=512,
        micro_rows=16,
        learning_rate=2e-3,
        warmup=200,
        final=0.3,
    )
    everything = Stage(
        name="all",
        mixture={**SCENES, "maze": 0.2, "world_frames": 0.2},
        mixture_end=EVERYTHING,
        kind_weights={"text": 2.0},
        steps=6000,
        rows=8,
        length=1024,
        learning_rate=1.2e-3,
        warmup=200,
        final=0.02,
    )
    return ModelRecipe(
        name="nano",
        text=text_tokenizer(),
        visual=visual_tokenizer(),
        sources=SOURCES,
        model=ModelShape(width=256, layers=8, heads=4, kv_heads=2),
        stages=(short, everything),
    )
