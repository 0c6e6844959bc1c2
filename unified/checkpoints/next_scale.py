"""A class-conditional transformer that writes an image map by map: what VAR and FlexVAR share, for training
(`forward`) and for a `Session`, whose stream holds nothing but the class: its text ids are the labels.

Source: FoundationVision/VAR (MIT), models/var.py. Tests: tests/unified/checkpoints/test_transformers.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unified.backbone.attention import Attend, sdpa
from unified.backbone.decoder import run_layers
from unified.backbone.layer_pass import Depth, Pass, slots_run
from unified.cache.kv_cache import KVCache
from unified.checkpoints.adaln import Block, CodeHead, Condition, HeadNorm, TransformerConfig, modulated
from unified.checkpoints.linear import Linear
from unified.heads.distribution import Categorical
from unified.layout.attention import Index, Seen, attends
from unified.layout.layout import Layout
from unified.orders import Plan, plan_for
from unified.orders.shapes import Shapes, area
from unified.stream.segments import Kind
from unified.stream.vocabulary import Vocabulary
from unified.tokenizers.feeds import Carry, MapFeed
from unified.tokenizers.resize import unflatten


class NextScaleTransformer(nn.Module):
    """A variant adds `order` (the name of its plan) and `positions(shapes)` [1, L, D]; its tokenizer gives
    the feed: what a map is fed of the maps before. Parameter names are the published ones."""

    order: str
    tokenizer: Any

    context_length = None  # no stream is read: a condition, and one image

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = Vocabulary(text=config.classes + 1, visual=config.codes, action=0)
        self.word_embed = Linear(config.code_width, config.width)
        self.class_emb = nn.Embedding(config.classes + 1, config.width)
        self.pos_start = nn.Parameter(torch.zeros(1, area(config.shapes[:1]), config.width))
        if config.shared_modulation:
            self.shared_ada_lin = nn.Sequential(nn.SiLU(), Linear(config.width, 6 * config.width))
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.depth))
        self.head_nm = HeadNorm(config)
        self.head = CodeHead(config.width, config.codes)

    def layers(self) -> list[Block]:
        return list(self.blocks)  # type: ignore[arg-type]

    # Of a variant -------------------------------------------------------------------------------------------

    def positions(self, shapes: Shapes) -> Tensor:
        """[1, L, D], added to every input."""
        raise NotImplementedError

    def vectors(self, codes: Tensor) -> Tensor:
        """Code vectors [..., C] of codes [...]."""
        return self.needed_tokenizer().vectors(codes)

    def feed(self, shapes: Shapes) -> MapFeed:
        """What the slots of these maps are fed, of code vectors [B, T, C]."""
        feed: MapFeed = self.needed_tokenizer().feed(shapes)
        return feed

    # Likelihood ---------------------------------------------------------------------------------------------

    def forward(
        self, labels: Tensor, vectors: Tensor, shapes: Shapes | None = None, depth: Depth | None = None
    ) -> Tensor:
        """Teacher forcing: logits [B, L, V] of every code given the codes of earlier maps.

        labels [B]; vectors [B, L - first, C] is what the tokenizer feeds to the second map on
        (`transformer_inputs`); shapes: the maps, by default those of the config; depth: which layers each map
        runs."""
        shapes = self.config.shapes if shapes is None else shapes
        self._check_vectors(labels, vectors, shapes)
        condition = self.condition(labels)
        inputs = torch.cat([self.first_inputs(condition), self.later_inputs(vectors)], dim=1)
        return self.predict(inputs, condition, shapes, depth)

    def predict(
        self, inputs: Tensor, condition: Condition, shapes: Shapes, depth: Depth | None = None
    ) -> Tensor:
        """Logits [B, L, V] of maps from their inputs [B, L, D], to which positions are added."""
        index = block_causal(shapes)
        seen = Seen(attends(index, index)[:, None].to(inputs.device))
        runs = {} if depth is None else self._runs(depth, shapes, inputs.device)
        run = Pass(index, inputs.new_zeros(3, 1, 1), seen=seen, condition=condition, runs=runs)
        hidden = self.hidden(inputs + self.positions(shapes), run)[0]
        logits: Tensor = self.head.logits(hidden).squeeze(-2)
        return logits

    def _runs(self, depth: Depth, shapes: Shapes, device: torch.device) -> dict[int, Tensor]:
        """By layer, the slots [1, L] bool that run it; layers that all run are left out."""
        runs = slots_run(depth, plan_for(self.order, shapes), self.layer_count)
        return {layer: run[None].to(device) for layer, run in enumerate(runs) if not bool(run.all())}

    def condition(self, labels: Tensor) -> Condition:
        """Everything the classes decide. labels [B] in 0..classes, the last being unconditional; else
        ValueError."""
        outside = (labels < 0) | (labels > self.null_label)
        if outside.any():
            worst = int(labels[outside][0])
            raise ValueError(f"label {worst} is not in 0..{self.null_label} ({self.null_label}: no class)")
        classes = self.class_emb(labels)  # [B, D]
        shared = None
        if self.config.shared_modulation:
            shared = self.shared_ada_lin(classes).view(len(labels), 1, 6, -1)
        return Condition(
            start=classes[:, None].float(),
            blocks=tuple(block.modulations(classes, shared) for block in self.layers()),
            head=self.head_nm(classes),
        )

    @property
    def null_label(self) -> int:
        """The label of no class."""
        return self.config.classes

    def first_inputs(self, condition: Condition) -> Tensor:
        """[R, first, D], without the positions."""
        return condition.start + self.pos_start

    def later_inputs(self, vectors: Tensor) -> Tensor:
        """[B, n, C] -> [B, n, D] in float32, without the positions."""
        return self.word_embed(vectors.to(self.word_embed.weight.dtype)).float()

    # What a Session needs -----------------------------------------------------------------------------------

    after = 0

    @property
    def layer_count(self) -> int:
        """Layers that a depth policy is asked for."""
        return self.config.depth

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        """embeds [R, n, D] under a pass whose `condition` has R rows -> what the head reads [R, n, D], alone
        in a list. Positions are part of the embeddings already."""
        return run_layers([self], embeds, run)

    def __len__(self) -> int:
        return self.config.depth

    def begin(self, hidden: Tensor, run: Pass) -> Condition:
        return _needed(run.condition)

    def layer(self, number: int, hidden: Tensor, shared: Condition, run: Pass) -> Tensor:
        x: Tensor = self.blocks[number](hidden.to(self.head.weight.dtype), shared.blocks[number], run)
        return x

    def end(self, hidden: Tensor, run: Pass) -> Tensor:
        scale, shift = _needed(run.condition).head
        return modulated(hidden, scale, shift, self.config.norm_eps)

    def prompt(self, label: int) -> list[int]:
        """The stream that asks for an image of a class."""
        words = self.vocabulary
        return [words.begin, words.user, label, words.end, words.assistant]

    attend: Attend = staticmethod(sdpa)

    @property
    def device(self) -> torch.device:
        return self.pos_start.device

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> Condition | None:
        """Only labels matter: the last one of every row decides its condition."""
        is_label = ids < self.vocabulary.text
        given = is_label.any(dim=1)
        if not given.any():
            return None
        if not given.all():
            raise ValueError("the rows of a class-conditional session must be given their labels together")
        last = is_label.shape[1] - 1 - is_label.flip(1).int().argmax(dim=1)
        return self.condition(ids.gather(1, last[:, None])[:, 0])

    def read(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> None:
        """Nothing of the stream is run."""

    def null_stream(self, ids: Sequence[int]) -> list[int]:
        return [self.null_label if token < self.vocabulary.text else token for token in ids]

    def new_cache(self, rows: int = 1, capacity: int | None = None, *, static: bool = False) -> KVCache:
        capacity = area(self.config.shapes) if capacity is None else capacity
        return KVCache(self.config.depth, rows, capacity, static=static, device=self.device)

    def write(self, plan: Plan, rows: int, condition: Any = None) -> MapWriter:
        """The state of one image being written in `rows` rows."""
        return MapWriter(self, plan, _needed(condition))

    def text_logits(self, hidden: Tensor) -> Tensor:
        raise ValueError("a class-conditional model writes images only: it has no text to continue with")

    # The tokenizer ------------------------------------------------------------------------------------------

    def join(self, tokenizer: Any) -> None:
        """Write images with this tokenizer. ValueError if it has other codes. It does not become a
        sub-module: it has its own weights, stays frozen, and stays in float32 when the transformer is
        cast."""
        if tokenizer is not None and self.config.codes != tokenizer.codes:
            raise ValueError(
                f"the transformer predicts {self.config.codes} codes, the tokenizer has {tokenizer.codes}"
            )
        if tokenizer is not None and self.config.code_width != tokenizer.dim:
            raise ValueError(
                f"the transformer is fed vectors of {self.config.code_width}, "
                f"the tokenizer's have {tokenizer.dim}"
            )
        object.__setattr__(self, "tokenizer", tokenizer)

    def needed_tokenizer(self) -> Any:
        """The tokenizer. ValueError if there is none."""
        if self.tokenizer is None:
            raise ValueError("writing images needs a tokenizer: join one to the transformer")
        return self.tokenizer

    def _check_vectors(self, labels: Tensor, vectors: Tensor, shapes: Shapes) -> None:
        first = area(self.config.shapes[:1])
        if area(shapes[:1]) != first:
            raise ValueError(f"the first map must hold {first} codes, got {shapes[0]}")
        want = (len(labels), area(shapes) - first, self.config.code_width)
        if tuple(vectors.shape) != want:
            raise ValueError(f"the maps {shapes} need input vectors {want}, got {tuple(vectors.shape)}")


class WritesMaps(Protocol):
    """What a `MapWriter` needs of a model. A condition's `start` is [R, 1, D]."""

    order: str

    @property
    def head(self) -> Any: ...

    def positions(self, shapes: Shapes) -> Tensor: ...  # [1, L, D], added to every input

    def first_inputs(self, condition: Any) -> Tensor: ...  # [R, first, D]

    def later_inputs(self, vectors: Tensor) -> Tensor: ...  # [B, n, C] -> [B, n, D]

    def vectors(self, codes: Tensor) -> Tensor: ...  # [B, n] -> [B, n, C]

    def feed(self, shapes: Shapes) -> MapFeed: ...


class MapWriter:
    """The images being written. The first rows are conditional; the others are fed the same codes."""

    def __init__(self, model: WritesMaps, plan: Plan, condition: Any) -> None:
        if len(plan.steps) != len(plan.shapes):
            raise ValueError(f"this model writes one map per step: use the order {model.order}")
        self.model, self.plan, self.condition = model, plan, condition
        lengths = [area((shape,)) for shape in plan.shapes]
        self._positions = model.positions(plan.shapes).float().split(lengths, dim=1)
        self._feed, self._carry = model.feed(plan.shapes), Carry()
        self._values: Tensor | None = None  # vectors of the codes so far [B, T, C]
        self._written = 0  # maps
        self.carried: dict[int, Tensor] = {}

    def set_reference(self, images: Any, actions: Any, contrast: Any = None, words: Any = ()) -> None:
        """A class is all that these models are told."""

    def predict(
        self, step: int, states: Sequence[Tensor], rows: int, before: Sequence[Tensor] | None
    ) -> Categorical:
        return self.model.head.distribution(states[0][:rows])

    def inputs(self, step: int) -> Tensor:
        """[R, n, D]: the inputs of all slots of a map."""
        if step == 0:
            return self.model.first_inputs(self.condition) + self._positions[0]
        if self._values is None or self._written < step:
            raise ValueError(f"map {step} is asked for before map {step - 1} was committed")
        fed = self._feed.inputs(self._values, self.plan.steps[step].run, self._carry)
        own = self.model.later_inputs(fed) + self._positions[step]
        return own.repeat(len(self.condition.start) // len(own), 1, 1)

    def commit(self, step: int, codes: Tensor, vectors: Tensor | None = None) -> None:
        """The codes [B, n] of a map are chosen; `vectors` [B, n, C], if given, are used in place of
        theirs."""
        vectors = self.model.vectors(codes) if vectors is None else vectors
        if self._values is None:
            self._values = vectors.new_zeros(
                len(vectors), self.plan.length, vectors.shape[-1], dtype=torch.float32
            )
        self._values[:, self.plan.map_slices[step]] = vectors
        self._written = step + 1

    def fork(self) -> MapWriter:
        """A copy that goes on by itself: what is committed to it is not committed here."""
        other = copy(self)
        other._values = None if self._values is None else self._values.clone()
        other._carry = dict(self._carry)
        return other


def finished(model: NextScaleTransformer, vectors: Sequence[Tensor], shapes: Shapes) -> Tensor:
    """What is known of the images [B, C, H, W] after all maps, from their vectors [B, n, C]."""
    if len(vectors) != len(shapes):
        raise ValueError(f"{len(shapes)} maps need {len(shapes)} lists of codes, got {len(vectors)}")
    image = model.feed(shapes).image(torch.cat(list(vectors), dim=1))
    return unflatten(image, shapes[-1]).contiguous()


def _needed(condition: Condition | None) -> Condition:
    if condition is None:
        raise ValueError("no class was given: feed the model's prompt(label) first")
    return condition


def block_causal(shapes: Shapes) -> Index:
    """[1, L]: the maps of one image under the project's attention rule, one step per map."""
    labels = [torch.full((rows * columns,), step) for step, (rows, columns) in enumerate(shapes)]
    label = torch.cat(labels)[None]
    one_image = torch.zeros_like(label)
    return Index(sample=one_image, segment=one_image, kind=torch.full_like(label, Kind.WRITE), label=label)


def drop_labels(
    labels: Tensor, rate: float, null_label: int, generator: torch.Generator | None = None
) -> Tensor:
    """Labels [B] for training with guidance: each becomes the unconditional one with probability `rate`."""
    dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < rate
    return torch.where(dropped, torch.full_like(labels, null_label), labels)
