"""A published MineWorld checkpoint for environments and rollouts.

assistant = open_world(config_from(options), torch.load(path, weights_only=True), tokenizer_options)
env = gymnasium.make("unified/WorldModel-v0", model=assistant, start=picture)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unified.apps.assistant import Assistant
from unified.checkpoints.mineworld import load
from unified.checkpoints.mineworld_config import MineWorldConfig
from unified.checkpoints.mineworld_session import Played
from unified.checkpoints.mineworld_tokenizer import MineWorldTokenizer
from unified.checkpoints.mineworld_tokenizer import load as load_tokenizer
from unified.stream.processor import Processor
from unified.tokenizers.text import byte_tokenizer


def open_world(
    config: MineWorldConfig,
    state_dict: Mapping[str, Any],
    tokenizer: MineWorldTokenizer | Mapping[str, Any],
    *,
    order: str = "diagonal(window=2)",
    seed: int = 0,
) -> Assistant:
    """A published checkpoint as what environments and rollouts take. `tokenizer`: one, or the options of the
    one whose weights lie beside the transformer's. `order`: raster, diagonal or diagonal(window=2 ...); it
    may be changed later, as `processor.order`. ValueError for weights or options that do not fit."""
    if isinstance(tokenizer, Mapping):
        tokenizer = load_tokenizer(tokenizer, state_dict)
    played = Played(load(config, state_dict))
    processor = Processor(
        played.vocabulary, byte_tokenizer(), tokenizer, config.actions, order=order, sides=()
    )
    return Assistant(played, processor, seed=seed, side=max(config.grid) * tokenizer.stride)  # type: ignore[arg-type]
