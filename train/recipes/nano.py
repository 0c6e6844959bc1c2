"""The default model: 8.5M parameters beside a visual tokenizer of 5.7M, for two cores or one GPU."""

from unified.train.recipe import ModelRecipe, ModelShape, Source, Stage
from unified.train.recipes.text_tokenizer import text_tokenizer
from unified.train.recipes.visual_tokenizer import visual_tokenizer

SOURCES = (
    Source(task="scene_caption", samples=15000),
    Source(task="scene_question", samples=15000),
    Source(task="scene_quiz", samples=36000),
    Source(task="scene_draw", samples=48000, options={"most": 3}),
    Source(task="scene_edit", samples=27000, options={"most": 3}),
    Source(task="scene_conversation", samples=7500, options={"most": 4}),
    Source(task="maze", samples=12000),
    Source(task="maze_text", samples=15000),
    Source(task="world_frames", samples=7500, options={"frames": 5}),
    Source(task="world_actions", samples=2250, options={"frames": 6}),
    Source(task="world_play", samples=2250, options={"frames": 6}),
    Source(task="small_talk", samples=12000),
)
EVERYTHING = {
    "scene_caption": 0.05,
    "scene_question": 0.04,
    "scene_quiz": 0.19,
    "scene_draw": 0.20,
    "scene_edit": 0.15,
    "scene_conversation": 0.06,
    "maze": 0.10,
    "maze_text": 0.06,
    "world_frames": 0.13,
    "world_actions": 0.02,
    "world_play": 0.02,
    "small_talk": 0.02,
}


def nano() -> ModelRecipe:
    """Width 256, 8 layers; maps of side 1, 2, 4, 6, 8. Tokenizers are trained first."""
    everything = Stage(
        name="all",
        mixture=EVERYTHING,
        kind_weights={"text": 2.0},  # an answer is a few ids beside the hundred of a picture
        steps=8000,
        rows=8,
        length=1024,
        micro_rows=8,
        optimiser="muon",
        learning_rate=3e-3,
        warmup=100,
        final=0.02,
        cut=0.8,
        average=0.995,
    )
    return ModelRecipe(
        name="nano",
        text=text_tokenizer(),
        visual=visual_tokenizer(),
        sources=SOURCES,
        model=ModelShape(width=256, layers=8, heads=4, kv_heads=2, attention="by_sample"),
        stages=(everything,),
    )
