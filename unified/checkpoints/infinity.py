"""Infinity: text to image, map by map, every bit of a code predicted on its own (arXiv 2412.04431).

Texts are features of an encoder (flan-t5-xl for the released weights), continuous values beside the ids; they
steer the model through cross-attention and modulation. Every map is fed the running sum of the maps before
it. For training there is `forward`; images are written by a `Session`, whose stream holds nothing but the
placeholders of the features and the codes written. Source: FoundationVision/Infinity (MIT),
infinity/models/infinity.py. Different from the published code: see infinity_layers.py and infinity_bits.py.
Tests: tests/unified/checkpoints/test_infinity.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.backbone.attention import sdpa
from unified.backbone.decoder import run_layers
from unified.backbone.layer_pass import Pass
from unified.cache.kv_cache import KVCache
from unified.checkpoints.adaln import modulated
from unified.checkpoints.infinity_bits import BitGrid
from unified.checkpoints.infinity_layers import EPS, Block, HeadNorm, Shared, TextCondition
from unified.checkpoints.infinity_rope import rotations
from unified.checkpoints.infinity_schedules import LONGEST_SIDE, schedule
from unified.checkpoints.infinity_text import NULL, PROMPT, TextEncoding, TextStream
from unified.checkpoints.linear import Linear
from unified.checkpoints.next_scale import MapWriter, block_causal
from unified.heads.bitwise import BitwiseHead
from unified.layout.attention import Seen, attends
from unified.layout.layout import Layout
from unified.orders import Plan, plan_for
from unified.orders.shapes import Shapes, area
from unified.stream.vocabulary import Vocabulary
from unified.tokenizers.feeds import MapFeed

LEVELS = 15  # maps that an embedding is learnt for


@dataclass(frozen=True, kw_only=True)
class InfinityConfig:
    """`cell_bits`: bits of a latent cell; with `patchify` a token holds 2 x 2 cells. `text_width`,
    `text_length`: channels of the text features, and the longest text. `rope`: the mode of
    `infinity_rope.rotations`. `level_every`: the map's embedding is added before the first layer and, if this
    is not 0, before every so many layers. `path`: the rate, in training, at which branches of the last layer
    are dropped (linear in the layer). `raw_queries`: cache policies are shown the queries that ScaleKV's
    published code scores with, remade by the bare qkv matrix (no bias, no unit length, no head scale, no
    rotation), in place of those that attended."""

    cell_bits: int = 4
    patchify: bool = False
    text_width: int = 128
    text_length: int = 16
    depth: int = 2
    width: int = 64
    heads: int = 4
    mlp_ratio: float = 4.0
    rope: int = 2
    level_every: int = 0
    path: float = 0.0
    raw_queries: bool = False

    def __post_init__(self) -> None:
        least = {"cell_bits": 1, "text_length": 1, "depth": 1, "width": 1, "heads": 1, "level_every": 0}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"{name} must be at least {number}, got {getattr(self, name)}")
        if self.grid.token_bits > 62:
            raise ValueError(f"a token of {self.grid.token_bits} bits does not fit an id: at most 62")
        if self.width % (4 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 4 times {self.heads} heads")
        if self.rope not in (0, 1, 2):
            raise ValueError(f"rope must be 0, 1 or 2, got {self.rope}")
        if not self.pool_heads or self.width % self.pool_heads:
            raise ValueError(
                f"text_width {self.text_width} gives {self.pool_heads} pooling heads, which must divide "
                f"width {self.width}"
            )

    @property
    def grid(self) -> BitGrid:
        return BitGrid(self.cell_bits, 2 if self.patchify else 1)

    @property
    def pool_heads(self) -> int:
        return self.text_width // (64 if self.width > 4096 else 128)

    @property
    def inner(self) -> int:
        """Width of the feed-forward layers."""
        return round(self.width * self.mlp_ratio / 256) * 256


class Infinity(nn.Module):
    """The transformer. `decoder`, if joined, turns finished latents into images."""

    order = "residual"
    attend = staticmethod(sdpa)
    after = 0

    def __init__(self, config: InfinityConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.grid = config.grid
        tail = (f"order:{self.order}", *(f"continuous:{name}" for name in TextStream.names))
        bits = self.grid.token_bits
        self.vocabulary = Vocabulary(text=1, visual=2**bits, action=0, max_side=LONGEST_SIDE, appended=tail)
        self.texts = TextStream(self.vocabulary)
        self.text = TextEncoding(config.text_width, config.text_length, width, config.pool_heads)
        self.pos_start = nn.Parameter(torch.zeros(1, 1, width))
        self.lvl_embed = nn.Embedding(LEVELS, width)
        self.word_embed = Linear(bits, width)
        self.shared_ada_lin = nn.Sequential(nn.SiLU(), Linear(width, 6 * width))
        paths = [config.path * layer / max(config.depth - 1, 1) for layer in range(config.depth)]
        self.blocks = nn.ModuleList(
            Block(layer, width, config.heads, config.inner, path, config.raw_queries)
            for layer, path in enumerate(paths)
        )
        self.head_nm = HeadNorm(width)
        self.head = BitwiseHead(width, 2**bits, embeds=False)

    # Likelihood ---------------------------------------------------------------------------------------------

    def forward(self, texts: Sequence[Tensor], vectors: Tensor, shapes: Shapes) -> Tensor:
        """Teacher forcing: logits [B, L, S, 2] of every bit given the codes of earlier maps.

        texts: features [n, Ct] of B texts; vectors [B, L - first, S]: what the second map on is fed
        (`grid.transformer_inputs`)."""
        first = area(shapes[:1])
        want = (len(texts), area(shapes) - first, self.grid.token_bits)
        if tuple(vectors.shape) != want:
            raise ValueError(f"the maps {shapes} need input vectors {want}, got {tuple(vectors.shape)}")
        condition = self.condition(texts)
        inputs = torch.cat([self.first_inputs(condition, first), self.later_inputs(vectors)], dim=1)
        index = block_causal(shapes)
        seen = Seen(attends(index, index)[:, None].to(inputs.device))
        plan = plan_for(self.order, shapes)
        run = Pass(index, inputs.new_zeros(3, 1, 1), seen=seen, plan=plan, condition=condition)
        return self.head.logits(self.hidden(inputs + self.positions(shapes), run)[0])

    def condition(self, texts: Sequence[Tensor]) -> TextCondition:
        """Everything that texts [n, Ct] decide. ValueError for empty or longer ones, or other channels."""
        pooled, memory, mask = self.text(texts)
        shared = self.shared_ada_lin(pooled).view(len(pooled), 1, 6, -1)
        return TextCondition(
            start=pooled[:, None].float(),
            modulations=tuple(block.modulations(shared) for block in self._blocks()),
            head=self.head_nm(pooled),
            memory=tuple(block.ca.keys_values(memory) for block in self._blocks()),
            mask=mask,
        )

    def _blocks(self) -> list[Block]:
        return list(self.blocks)  # type: ignore[arg-type]

    def first_inputs(self, condition: TextCondition, count: int = 1) -> Tensor:
        """[R, count, D], without the levels."""
        return (condition.start + self.pos_start).expand(-1, count, -1)

    def later_inputs(self, vectors: Tensor) -> Tensor:
        """[B, n, S] -> [B, n, D] in float32, without the levels."""
        return self.word_embed(vectors.to(self.word_embed.weight.dtype)).float()

    def positions(self, shapes: Shapes) -> Tensor:
        """[1, L, D]: the embedding of the map that each slot belongs to. ValueError for too many maps."""
        if len(shapes) > LEVELS:
            raise ValueError(f"the model knows {LEVELS} maps, got {len(shapes)}")
        counts = torch.tensor([area((shape,)) for shape in shapes], device=self.device)
        levels = torch.arange(len(shapes), device=self.device).repeat_interleave(counts)
        return self.lvl_embed(levels)[None]

    # Of the codes -------------------------------------------------------------------------------------------

    def vectors(self, codes: Tensor) -> Tensor:
        """Vectors [..., S] of codes [...]."""
        return self.grid.vectors(self.head.to_symbols(codes))

    def feed(self, shapes: Shapes) -> MapFeed:
        """What the slots of these maps are fed, of vectors [B, T, S]."""
        return self.grid.feed(shapes)

    # The layers ---------------------------------------------------------------------------------------------

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        """embeds [R, n, D] under a pass whose `condition` has R rows -> what the head reads [R, n, D], alone
        in a list. Levels are part of the embeddings already."""
        return run_layers([self], embeds, run)

    def __len__(self) -> int:
        return self.config.depth

    def begin(self, hidden: Tensor, run: Pass) -> Shared:
        plan, config = run.plan, self.config
        if plan is None:
            raise ValueError("this model runs steps of an image only: its pass needs a plan")
        slots = slice(None) if run.step < 0 else _span(plan.steps[run.step].run)
        tables = rotations(plan.shapes, config.width // config.heads, config.rope)
        cos, sin = (table[slots].to(hidden.device) for table in tables)
        levels = self.positions(plan.shapes)[:, slots] if config.level_every else None
        return Shared(_needed(run.condition), (cos, sin), levels)

    def layer(self, number: int, hidden: Tensor, shared: Shared, run: Pass) -> Tensor:
        hidden = hidden.to(self.word_embed.weight.dtype)
        if shared.levels is not None and number and number % self.config.level_every == 0:
            hidden = hidden + shared.levels
        x: Tensor = self.blocks[number](hidden, shared, run)
        return x

    def end(self, hidden: Tensor, run: Pass) -> Tensor:
        scale, shift = _needed(run.condition).head
        return modulated(hidden, scale, shift, EPS)

    # What a Session needs -----------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.pos_start.device

    def prompt(self, length: int, negative: int = 0) -> list[int]:
        """The stream that asks for an image of a text of so many features, given as values called "text".
        Those of a text to lead away from, called "negative", stand before them; without it the null branch
        is told the learnt features of no text."""
        return self.texts.prompt(length, negative)

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> TextCondition | None:
        """The features of each row's text."""
        texts = self.texts.rows(ids, {**(values or {}), NULL: self.text.cfg_uncond})
        return None if texts is None else self.condition(texts)

    def read(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> None:
        """Nothing of the stream is run."""

    def null_stream(self, ids: Sequence[int]) -> list[int]:
        """The same without the text: with the negative one if there is any."""
        texts = {self.vocabulary.placeholder(PROMPT): self.vocabulary.placeholder(NULL)}
        return [texts.get(token, token) for token in ids]

    def new_cache(self, rows: int = 1, capacity: int | None = None, *, static: bool = False) -> KVCache:
        capacity = area(schedule(1.0, "0.25M")) if capacity is None else capacity
        return KVCache(self.config.depth, rows, capacity, static=static)

    def write(self, plan: Plan, rows: int, condition: Any = None) -> MapWriter:
        """The state of one image being written in `rows` rows."""
        return MapWriter(self, plan, _needed(condition))

    def text_logits(self, hidden: Tensor) -> Tensor:
        raise ValueError("a text-to-image model writes images only: it has no text to continue with")


def _span(slots: Tensor) -> slice:
    """The slots of a map, which follow one another."""
    return slice(int(slots[0]), int(slots[-1]) + 1)


def _needed(condition: TextCondition | None) -> TextCondition:
    if condition is None:
        raise ValueError("no text was given: feed the model's prompt(length) with its features first")
    return condition
