"""The default visual tokenizer: scenes, mazes and frames together in one codebook at every scale.

Codes are clusters of patches (of their cosines) and stand still; a decoder learns what stands there, from a
code and its neighbours. With few steps this is ahead of learning encoder, codes and decoder together, where
rare codes never catch up with a moving encoder.
"""

from typing import Any

from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.vq import VQConfig
from unified.train.recipe import Source, VisualTokenizerRecipe
from unified.train.tokenizer import AnnealingConfig, RestartConfig, TokenizerTrainingConfig

FOLDED: dict[str, Any] = {
    "multipliers": (1,),
    "patch": 8,
    "attention": False,
    "middle_attention": False,
    "groups": 8,
    "shortcut": True,
}


def visual_tokenizer() -> VisualTokenizerRecipe:
    """6M parameters, stride 8, 4096 codes: 64 x 64 pixels are 8 x 8 codes. All convolutions work on the grid
    of codes."""
    encoder = NetworkConfig(latent=64, width=32, blocks=0, **FOLDED)
    decoder = NetworkConfig(latent=64, width=256, **FOLDED)
    return VisualTokenizerRecipe(
        batch=16,
        save_every=500,
        sources=(
            Source(task="scene_conversation", samples=16000, weight=0.45),
            Source(task="maze", samples=4000, weight=0.25),
            Source(task="world_frames", samples=8000, weight=0.3, options={"frames": 3}),
        ),
        network=VQConfig(codes=4096, dim=64, encoder=encoder, decoder=decoder, normalised=False),
        training=TokenizerTrainingConfig(
            steps=1600,
            learning_rate=2e-3,
            draws=1,
            average=0.998,
            bf16=True,
            decoder_only=True,
            optimiser="muon",
            log_every=100,
            annealing=AnnealingConfig(warmup=50),
            restarts=RestartConfig(first=300, until=0.0),
        ),
    )
