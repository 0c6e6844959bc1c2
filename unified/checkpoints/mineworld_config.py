"""The published MineWorld transformers: their options, and ids of the stream as ids of the checkpoint.

Source: microsoft/mineworld (MIT), arXiv 2504.08388.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unified.orders.shapes import Shape
from unified.stream.vocabulary import Vocabulary
from unified.tokenizers.action import END, ActionConfig, ActionTokenizer

GRID = (14, 24)
CODES = 8192
LETTERS = 256  # of the stream's text, which these models do not read
ACTION_SLOTS = 11

_SIZES = {
    "hidden_size": "width",
    "intermediate_size": "inner",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "num_hidden_layers": "layers",
}
_FIELDS = {
    "rope_theta": "rope_base",
    "rms_norm_eps": "norm_eps",
    "vocab_size": "ids",
    "max_position_embeddings": "context",
}
_FALSE = ("attention_bias", "mlp_bias", "tie_word_embeddings")


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """Of `layers` layers: width of the states and of the feed-forward networks, and how many heads there are,
    of queries and of keys and values."""

    width: int = 64
    inner: int = 128
    heads: int = 4
    kv_heads: int = 2
    layers: int = 2

    def __post_init__(self) -> None:
        if self.width % self.heads or self.heads % self.kv_heads or self.width // self.heads % 2:
            raise ValueError(
                f"width {self.width} must be heads times an even number, and {self.heads} heads a multiple "
                f"of the {self.kv_heads} of keys and values"
            )
        if min(self.layers, self.inner) < 1:
            raise ValueError("layers and inner must be at least 1")


@dataclass(frozen=True, kw_only=True)
class MineWorldConfig:
    """`grid`: rows and columns of a frame's `codes`. `ids`: rows of the embedding, which are the codes, the
    ids of actions and some that are never used. `context`: positions that a checkpoint was trained with."""

    grid: Shape = GRID
    codes: int = CODES
    sizes: LayerSizes = field(default_factory=LayerSizes)
    ids: int = CODES + 70
    context: int = 16 * 347
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if min(self.grid) < 1 or self.codes < 2:
            raise ValueError("grid must be at least 1 x 1, codes at least 2")
        if self.ids < self.codes + self.actions.size:
            raise ValueError(
                f"{self.codes} codes and {self.actions.size} ids of actions need as many rows, got {self.ids}"
            )
        if self.context < 2 * self.step:
            raise ValueError(f"a context of {self.context} positions holds no two steps of {self.step}")

    @property
    def frame(self) -> int:
        """Codes of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def step(self) -> int:
        """Positions of a frame and an action."""
        return self.frame + ACTION_SLOTS

    @property
    def actions(self) -> ActionTokenizer:
        return ActionTokenizer(ActionConfig.mineworld(offset=self.codes))

    @property
    def end_marker(self) -> int:
        """The last id of every action."""
        return self.actions.vocabulary[END]

    def vocabulary(self) -> Vocabulary:
        """Of the stream: raster, and the diagonal of every window, may be asked for."""
        windows = range(2, self.grid[1] + 1)
        orders = ("raster", "diagonal", *(f"diagonal(window={window})" for window in windows))
        return Vocabulary(
            text=LETTERS,
            visual=self.codes,
            action=self.actions.size,
            action_slots=ACTION_SLOTS,
            max_side=max(64, *self.grid),
            orders=orders,
        )


def config_from(options: Mapping[str, Any], *, grid: Shape = GRID, codes: int = CODES) -> MineWorldConfig:
    """The config of the published `transformer_config`. ValueError for a missing option, or one that would be
    another model."""
    missing = [name for name in ("hidden_size", "num_attention_heads", "vocab_size") if name not in options]
    if missing:
        raise ValueError(f"the options of the transformer lack {missing[0]}")
    wrong = next((name for name in _FALSE if options.get(name)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} must be false in a MineWorld transformer")
    if options.get("hidden_act", "silu") != "silu" or options.get("rope_scaling"):
        raise ValueError("a MineWorld transformer has SiLU and unscaled rotary positions")
    fields = {ours: options[theirs] for theirs, ours in _FIELDS.items() if theirs in options}
    sizes = {ours: options[theirs] for theirs, ours in _SIZES.items() if theirs in options}
    sizes.setdefault("kv_heads", sizes["heads"])
    return MineWorldConfig(grid=grid, codes=codes, sizes=LayerSizes(**sizes), **fields)
