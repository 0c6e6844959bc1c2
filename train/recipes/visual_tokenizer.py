"""The default visual tokenizer: scenes, mazes and frames together in one codebook at every scale.

Codes stay in use because those that no scale uses are moved onto vectors far from every code
(`unified.train.tokenizer`).
"""

from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.vq import VQConfig
from unified.train.recipe import Source, VisualTokenizerRecipe
from unified.train.tokenizer import AnnealingConfig, TokenizerTrainingConfig


def visual_tokenizer() -> VisualTokenizerRecipe:
    """1.8M parameters, stride 8, 1024 codes: 64 x 64 pixels are 8 x 8 codes."""
    network = NetworkConfig(
        latent=32,
        width=32,
        multipliers=(1, 1, 2, 3),
        attention=False,
        middle_attention=False,
        groups=8,
    )
    return VisualTokenizerRecipe(
        sources=(
            Source(task="scene_conversation", samples=16000, weight=0.45),
            Source(task="maze", samples=4000, weight=0.2),
            Source(task="world_frames", samples=8000, weight=0.35, options={"frames": 3}),
        ),
        network=VQConfig(codes=1024, dim=16, encoder=network),
        training=TokenizerTrainingConfig(
            steps=6000, learning_rate=1e-3, average=0.998, annealing=AnnealingConfig(warmup=100)
        ),
    )
