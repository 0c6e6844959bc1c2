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
from typing import Any

import torch
from torch import Tensor, nn

from unified.backbone.attention import Attend, sdpa
from unified.backbone.decoder import run_layers
from unified.backbone.layer_pass import Pass
from unified.cache.kv_cache import KVCache
from unified.checkpoints.adaln import modulated
from unified.checkpoints.infinity_config import InfinityConfig
from unified.checkpoints.infinity_layers import EPS, Block, HeadNorm, Shared, TextCondition
from unified.checkpoints.infinity_rope import rotations
from unified.checkpoints.infinity_schedules import LONGEST_SIDE, schedule
from unified.checkpoints.infinity_text import NULL, PROMPT, TextEncoding, TextStream
from unified.checkpoints.infinity_tokenizer import InfinityTokenizer
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


class Infinity(nn.Module):
    """The transformer. A `Session` writes codes, of which the joined tokenizer makes an image (`image`).
    Parameter names are the published ones, but for those of `renamed` in infinity_published.py."""

    order = "residual"
    after = 0
    tokenizer: InfinityTokenizer | None = None

    context_length = None  # no stream is read: a condition, and one image

    def __init__(self, config: InfinityConfig) -> None:
        super().__init__()
        self.config, self.grid, width = config, config.grid, config.width
        self.attend: Attend = sdpa
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
        return self.forced(self.condition(texts), vectors, shapes)

    def forced(self, condition: TextCondition, vectors: Tensor, shapes: Shapes) -> Tensor:
        """`forward` under a condition of B rows."""
        first = self.first_inputs(condition).expand(-1, area(shapes[:1]), -1)
        return self.logits(torch.cat([first, self.later_inputs(vectors)], dim=1), condition, shapes)

    def logits(self, inputs: Tensor, condition: TextCondition, shapes: Shapes) -> Tensor:
        """Inputs [B, L, D] of all slots, without the levels -> logits [B, L, S, 2] in one pass, each map
        seeing itself and those before it."""
        index = block_causal(shapes)
        seen = Seen(attends(index, index)[:, None].to(inputs.device))
        plan, index = plan_for(self.order, shapes), index.map(lambda field: field.expand(len(inputs), -1))
        run = Pass(index, inputs.new_zeros(3, 1, 1), seen=seen, plan=plan, condition=condition)
        return self.head.logits(self.hidden(inputs + self.positions(shapes), run)[0])

    def condition(self, texts: Sequence[Tensor]) -> TextCondition:
        """Everything that texts [n, Ct] decide. ValueError for empty or longer ones, or other channels."""
        return self.conditioned(*self.text(texts))

    def conditioned(self, pooled: Tensor, memory: Tensor, mask: Tensor | None) -> TextCondition:
        """The condition of pooled texts [B, D] and of what cross-attention reads, `memory` [B, T, D], of
        which `mask` [B, 1, 1, T] marks each row's own (None: all)."""
        shared = self.shared_ada_lin(pooled).view(len(pooled), 1, 6, -1)
        return TextCondition(
            start=pooled[:, None].float(),
            modulations=tuple(block.modulations(shared) for block in self.layers()),
            head=self.head_nm(pooled),
            memory=tuple(block.ca.keys_values(memory) for block in self.layers()),
            mask=mask,
        )

    @property
    def layer_count(self) -> int:
        return len(self)

    def layers(self) -> list[Block]:
        return list(self.blocks)  # type: ignore[arg-type]

    def first_inputs(self, condition: TextCondition) -> Tensor:
        """[R, 1, D], without the level: the first map is one token."""
        return condition.start + self.pos_start

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

    def join(self, tokenizer: InfinityTokenizer | None) -> None:
        """Make images with this tokenizer. ValueError if its tokens have other bits. It does not become a
        sub-module: it stays frozen, and in float32 when the transformer is cast."""
        if tokenizer is not None and tokenizer.grid != self.grid:
            raise ValueError(f"the transformer writes {self.grid}, the tokenizer has {tokenizer.grid}")
        object.__setattr__(self, "tokenizer", tokenizer)

    def image(self, codes: Sequence[Tensor], shapes: Shapes) -> Tensor:
        """Codes [B, n] of all maps -> images [B, 3, H, W] in [0, 1]."""
        return self.decode(torch.cat([self.vectors(ids) for ids in codes], dim=1), shapes)

    def decode(self, vectors: Tensor, shapes: Shapes) -> Tensor:
        """Vectors [B, T, S] of all maps -> images in [0, 1]."""
        total = self.grid.summed(vectors, shapes)
        return (self.needed_tokenizer().decode_vectors(total).float() + 1) / 2

    def needed_tokenizer(self) -> InfinityTokenizer:
        """The tokenizer. ValueError if there is none."""
        if self.tokenizer is None:
            raise ValueError("making images needs a tokenizer: join one to the transformer")
        return self.tokenizer

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
        if run.append is not None and run.step < 0:
            raise ValueError("this model runs one step of an image in a pass: use the strategy OnePass")
        slots = slice(None) if run.step < 0 else _span(plan.steps[run.step].run)
        cos, sin = (table[slots].to(hidden.device) for table in self.rotation(plan.shapes))
        levels = self.positions(plan.shapes)[:, slots] if config.level_every else None
        return Shared(_needed(run.condition), (cos, sin), levels)

    def rotation(self, shapes: Shapes) -> tuple[Tensor, Tensor]:
        """cos and sin [L, C / 2] of the rotary embedding of all slots of these maps."""
        return rotations(shapes, self.config.width // self.config.heads, self.config.rope)

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
