"""Everything that `nano` does, in seconds: tokenizers, data, two stages, the finished folder."""

from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.vq import VQConfig
from unified.train.recipe import (
    ModelRecipe,
    ModelShape,
    Source,
    Stage,
    TextTokenizerRecipe,
    VisualTokenizerRecipe,
)
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
        mixture={"scene_draw": 0.6, "scene_question": 0.2, "small_talk": 0.2},
        steps=12,
        rows=4,
        length=384,
        micro_rows=2,
        warmup=2,
        learning_rate=0.01,
        average=0.9,
        bf16=False,
    )
    return ModelRecipe(
        name="nano_smoke",
        text=TextTokenizerRecipe(size=300, sources=(TALK, SCENES)),
        visual=VisualTokenizerRecipe(
            size=32,
            batch=8,
            held_out=16,
            save_every=5,
            sources=(SCENES,),
            network=VQConfig(codes=64, dim=8, encoder=network),
            training=TokenizerTrainingConfig(steps=12, log_every=6),
        ),
        sources=(SCENES, QUESTIONS, TALK),
        stages=(stage,),
        model=ModelShape(width=32, layers=2, heads=2, kv_heads=1, transition=8),
        sides=(1, 2),
        max_side=8,
        merge=4,
        log_every=1,
        save_every=4,
        sheet_every=12,
    )
