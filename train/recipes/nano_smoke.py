"""Everything that `nano` does, in seconds: tokenizers, data, two stages, the finished folder."""

from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.vq import VQConfig
from unified.train.recipe import (
    DecoderShape,
    DefaultExtras,
    ModelData,
    ModelRecipe,
    ModelShape,
    ModelTokenizers,
    OutputConfig,
    Pictures,
    Source,
    TextTokenizerRecipe,
    VisualTokenizerRecipe,
)
from unified.train.stage import BatchConfig, OptimisationConfig, ParameterConfig, Stage, StageData
from unified.train.tokenizer import TokenizerTrainingConfig

SCENES = Source(task="scene_draw", samples=24, options={"size": 32, "most": 2})
QUESTIONS = Source(task="scene_question", samples=24, options={"size": 32, "most": 2})
TALK = Source(task="small_talk", samples=24)


def nano_smoke() -> ModelRecipe:
    """A model of 0.1M parameters that learns little, to see that everything works."""
    network = NetworkConfig(
        latent=16, width=32, multipliers=(1, 1, 1, 1), blocks=0, attention=False, middle_attention=False
    )
    stage = Stage(
        name="all",
        steps=12,
        data=StageData(mixture={"scene_draw": 0.6, "scene_question": 0.2, "small_talk": 0.2}),
        batch=BatchConfig(rows=4, length=384, micro_rows=2, bf16=False),
        optimisation=OptimisationConfig(learning_rate=0.01, warmup=2),
        parameters=ParameterConfig(average=0.9),
    )
    visual = VisualTokenizerRecipe(
        pictures=Pictures(sources=(SCENES,), size=32, batch=8, held_out=16),
        network=VQConfig(codes=64, dim=8, encoder=network),
        training=TokenizerTrainingConfig(steps=12, log_every=6),
        save_every=5,
    )
    text = TextTokenizerRecipe(size=300, sources=(TALK, SCENES))
    return ModelRecipe(
        name="nano_smoke",
        tokenizers=ModelTokenizers(text=text, visual=visual, sides=(1, 2), max_side=8, merge=4),
        data=ModelData(sources=(SCENES, QUESTIONS, TALK)),
        model=ModelShape(
            decoder=DecoderShape(width=32, layers=2, heads=2, kv_heads=1),
            default_extras=DefaultExtras(transition=8),
        ),
        stages=(stage,),
        output=OutputConfig(log_every=1, save_every=4, sheet_every=12),
    )
