"""The default visual tokenizer: scenes, mazes and frames together in one codebook at every scale.

Codes stay in use because those that no scale uses are moved onto vectors far from every code
(`unified.train.tokenizer`).
"""

from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.vq import VQConfig
from unified.train.recipe import Source, VisualTokenizerRecipe
from unified.train.tokenizer import AnnealingConfig, RestartConfig, TokenizerTrainingConfig


def visual_tokenizer() -> VisualTokenizerRecipe:
    """5.8M parameters, stride 8, 4096 codes: 64 x 64 pixels are 8 x 8 codes. All convolutions work on the
    grid of codes: at equal time that was far better than the usual pyramid."""
    network = NetworkConfig(
        latent=128, width=192, multipliers=(1,), patch=8, attention=False, middle_attention=False, groups=8
    )
    return VisualTokenizerRecipe(
        batch=16,
        save_every=500,
        sources=(
            Source(task="scene_conversation", samples=16000, weight=0.35),
            Source(task="maze", samples=4000, weight=0.3),
            Source(task="world_frames", samples=8000, weight=0.35, options={"frames": 3}),
        ),
        network=VQConfig(codes=4096, dim=16, encoder=network),
        training=TokenizerTrainingConfig(
            steps=6000,
            learning_rate=3e-3,
            draws=1,
            average=0.998,
            bf16=True,
            optimiser="muon",
            log_every=100,
            annealing=AnnealingConfig(warmup=100),
            restarts=RestartConfig(memory=0.98),  # a step holds fewer vectors than there are codes
        ),
    )
