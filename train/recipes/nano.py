"""The default model: 18M parameters beside a visual tokenizer of 5M, for twenty minutes of one large GPU."""

from dataclasses import replace

from unified.tasks.scenes.drawing import CATEGORIES
from unified.tasks.scenes.scene import TEXTURES
from unified.tasks.worlds.clips import EVERY_KEY
from unified.train.recipe import (
    DecoderShape,
    DefaultExtras,
    ModelData,
    ModelRecipe,
    ModelShape,
    ModelTokenizers,
    OutputConfig,
    Source,
)
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

# No prompt says what texture the ground has, or where in its cell an object stands: drawn, that would be most
# of a picture's bits, and what the words do say would be lost among them.
PLAIN = ["plain"]
HALF_PLAIN = ["plain"] * 3 + list(TEXTURES)
PROMPTS = ["complete"] * 3 + list(CATEGORIES)
DRAWN = {"most": 3, "textures": PLAIN, "categories": PROMPTS, "settled": 1.0, "stepwise": 1.0}
MIXED = {"textures": HALF_PLAIN, "settled": 0.5, "stepwise": 1.0}  # what is read may stand anywhere
# One wall read wrongly spoils a maze, and a large one has the most: it is seen the most often.
MAZE_SIZES = [
    *([3, 3], [3, 4], [4, 3], [3, 5], [5, 3]),
    *[[4, 4], [4, 5], [5, 4]] * 2,
    *[[5, 5]] * 8,
]
MAZES = {"charted": True, "sizes": MAZE_SIZES}
SOURCES = (
    Source(task="scene_caption", samples=20000),
    Source(task="scene_question", samples=30000),
    Source(task="scene_quiz", samples=120000),
    Source(task="scene_study", samples=60000),
    Source(task="scene_parts", samples=60000, options={"least": 3}),
    Source(task="scene_plan", samples=60000, options={"most": 3, "categories": PROMPTS, **MIXED}),
    Source(task="scene_draw", samples=120000, options=DRAWN),
    Source(task="scene_edit", samples=70000, options={"most": 3, "settled": 0.5, "stepwise": 1.0}),
    Source(task="scene_conversation", samples=15000, options={"most": 4, **MIXED}),
    Source(task="maze", samples=40000, options=MAZES),
    Source(task="maze_text", samples=60000, options=MAZES),
    Source(task="world_frames", samples=20000, options={"frames": 5, "players": list(EVERY_KEY)}),
    Source(task="world_actions", samples=4000, options={"frames": 6}),
    Source(task="world_play", samples=4000, options={"frames": 6}),
    Source(task="small_talk", samples=20000),
)
EVERYTHING = {
    "scene_caption": 0.02,
    "scene_question": 0.02,
    "scene_quiz": 0.10,
    "scene_study": 0.08,
    "scene_parts": 0.02,
    "scene_plan": 0.03,
    "scene_draw": 0.20,
    "scene_edit": 0.16,
    "scene_conversation": 0.04,
    "maze": 0.07,
    "maze_text": 0.07,
    "world_frames": 0.14,
    "world_actions": 0.02,
    "world_play": 0.02,
    "small_talk": 0.01,
}


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
        steps=26000,
        data=replace(first.data, samples=1.0),
        optimisation=replace(first.optimisation, warmup=50, final=0.0),
        parameters=ParameterConfig(average=0.999),
    )
    return ModelRecipe(
        name="nano",
        tokenizers=ModelTokenizers(
            text=text_tokenizer(), visual=visual_tokenizer(), sides=SIDES, frame_sides=(), merge=16
        ),
        data=ModelData(sources=SOURCES),
        model=ModelShape(
            decoder=DecoderShape(width=384, layers=8, heads=6, kv_heads=2, mlp=960),
            default_extras=DefaultExtras(transition=96),
        ),
        stages=(first, second),
        output=OutputConfig(log_every=100, save_every=2000),
    )
