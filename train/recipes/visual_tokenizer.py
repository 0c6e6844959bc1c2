"""The default visual tokenizer: scenes, mazes and frames together in one codebook at every scale.

Codes are clusters of patches (of their cosines), at the full grid and at the coarser maps that the model
writes first, and stand still; a decoder learns what stands there, from a code and its neighbours. This is
ahead of learning encoder, codes and decoder together, where rare codes never catch up with a moving encoder.
"""

from typing import Any

from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.vq import VQConfig
from unified.train.recipe import Pictures, Source, VisualTokenizerRecipe
from unified.train.tokenizer import AnnealingConfig, RestartConfig, TokenizerTrainingConfig

SOURCES = (
    Source(task="scene_conversation", samples=16000, weight=0.4),
    Source(task="maze", samples=8000, weight=0.35),
    Source(task="world_frames", samples=8000, weight=0.25, options={"frames": 3}),
    # What is shown and not drawn: without these, outlines on light and dark grounds are lost.
    Source(task="scene_parts", samples=8000, weight=0.25, options={"renderer": "varied"}),
    Source(task="maze_text", samples=4000, weight=0.15, options={"renderer": "varied"}),
    Source(task="unknown_picture", samples=2000, weight=0.05),
)
SIDES = (1, 2, 4, 8)  # of the maps before the last
FOLDED: dict[str, Any] = {
    "latent": 48,
    "multipliers": (1,),
    "patch": 4,
    "attention": False,
    "middle_attention": False,
    "groups": 8,
    "shortcut": True,
}


def visual_tokenizer() -> VisualTokenizerRecipe:
    """5M parameters, stride 4, 4096 codes: 64 x 64 pixels are 16 x 16 codes. All convolutions work on the
    grid of codes."""
    encoder = NetworkConfig(width=32, blocks=0, **FOLDED)
    decoder = NetworkConfig(width=256, blocks=1, **FOLDED)
    return VisualTokenizerRecipe(
        pictures=Pictures(batch=64, sources=SOURCES),
        save_every=2000,
        network=VQConfig(codes=4096, dim=48, encoder=encoder, decoder=decoder, normalised=False),
        training=TokenizerTrainingConfig(
            steps=6000,
            learning_rate=2e-3,
            draws=1,
            average=0.998,
            bf16=True,
            decoder_only=True,
            optimiser="muon",
            log_every=100,
            annealing=AnnealingConfig(warmup=50),
            restarts=RestartConfig(first=120, sides=SIDES, rounds=20, until=0.0),
        ),
    )
