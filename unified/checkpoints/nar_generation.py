"""The published NAR transformers in a `Session`, and the rules of the published sampler.

Source: ThisisBillhe/NAR (MIT), NAR-images/autoregressive/models/generate.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from unified.backbone.attention import Attend, sdpa
from unified.backbone.layer_pass import Pass
from unified.cache.kv_cache import KVCache
from unified.checkpoints.nar import NARTransformer
from unified.decoding.guidance import Guidance, check_scales
from unified.decoding.noise import SAMPLE, GeneratorNoise
from unified.decoding.sampling import Sampler
from unified.heads.distribution import Distribution, joined
from unified.layout.layout import Layout
from unified.likelihood import read_out
from unified.orders import Plan
from unified.stream.vocabulary import Vocabulary

LEAST_TEMPERATURE = 1e-5


class Prompted:
    """A transformer as a session needs it, and what it may be asked for. Nothing but a condition is read, and
    that once: the stream's text ids are numbers into `given` (K labels, or K vectors of captions [K, C]);
    `null` [K] are the numbers that stand for them in the null branch. `prompts`: the streams that may be fed,
    of each class or of each caption."""

    context_length = None  # no stream is read: a condition, and one image

    def __init__(
        self, model: NARTransformer, given: Tensor, null: Tensor, prompts: Sequence[list[int]]
    ) -> None:
        self.model, self.given, self.null, self.prompts = model, given, null.tolist(), prompts
        self.attend: Attend = sdpa
        self.head = model.heads[0]
        config = model.config
        side = max(64, *config.shapes[0])
        self.vocabulary = Vocabulary(
            text=len(given), visual=config.codes, action=0, max_side=side, orders=(model.order,)
        )

    @classmethod
    def by_class(cls, model: NARTransformer) -> Self:
        """To be asked for classes: prompt c of class c, the last one of none."""
        none = model.config.classes
        labels = torch.arange(none + 1)
        return cls(model, labels, torch.full_like(labels, none), [[label] for label in labels.tolist()])

    @classmethod
    def by_caption(cls, model: NARTransformer, features: Tensor, mask: Tensor) -> Self:
        """To be asked for captions, given by features [B, T, C]; `mask` [B, T] is 0 at the padding before
        each, which is not read. ValueError for other features, or for padding that does not come first."""
        uncond = model.get_parameter("cls_embedding.uncond_embedding").detach()
        if features.shape[1:] != uncond.shape or mask.shape != features.shape[:2]:
            raise ValueError(
                f"captions need features [B, {len(uncond)}, {uncond.shape[1]}] and a mask of as many, "
                f"got {tuple(features.shape)} and {tuple(mask.shape)}"
            )
        kept = mask > 0
        if not kept[:, -1].all() or (kept[:, :-1] & ~kept[:, 1:]).any():
            raise ValueError("the padding of a caption must come before it, and leave at least one vector")
        count, length = mask.shape
        given = torch.cat([features.flatten(0, 1), uncond.to(features)])
        null = count * length + torch.arange(length).repeat(count + 1)
        numbers = torch.arange(count * length).view(count, length)
        prompts = [row[keep].tolist() for row, keep in zip(numbers, kept, strict=True)]
        return cls(model, given, null, prompts)

    # What a Session needs -----------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.model.tok_embeddings.weight.device

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> None:
        """The stream alone steers this model."""

    @property
    def layer_count(self) -> int:
        return self.model.config.depth

    def read(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> Tensor | None:
        """Embeddings [R, n, D] of a condition's ids [R, n]; None for the header of an image and for images
        that are read. ValueError for a condition that does not stand alone at the beginning."""
        words = self.vocabulary
        said = ids < words.text
        if not said.any():
            return None
        if not (said | (ids == words.pad)).all() or layout.index.label[:, 0].any():
            raise ValueError(
                "a published NAR model is told its condition once: open a new session for another"
            )
        given = self.given.to(self.device)[ids.clamp(max=words.text - 1)]
        return self.model.condition(given)

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        return self.model.hidden(embeds, run)

    def null_stream(self, ids: Sequence[int]) -> list[int]:
        return [self.null[token] if token < self.vocabulary.text else token for token in ids]

    def new_cache(self, rows: int = 1, capacity: int | None = None, *, static: bool = False) -> KVCache:
        config = self.model.config
        capacity = config.condition_length + self.model.plan().length if capacity is None else capacity
        return KVCache(config.layers, rows, capacity, static=static)

    def write(self, plan: Plan, rows: int, condition: object = None) -> NARWriter:
        """The state of one image being written in `rows` rows. Another plan than the model's: ValueError."""
        if (plan.order, plan.shapes) != (self.model.order, self.model.config.shapes):
            raise ValueError(
                f"this model writes maps {self.model.config.shapes} in the order {self.model.order}, "
                f"got {plan.shapes} in the order {plan.order}"
            )
        return NARWriter(self.model, plan, rows)

    def text_logits(self, hidden: Tensor) -> Tensor:
        raise ValueError("this model writes images only: it has no text to continue with")


class NARWriter:
    """The images being written. The first rows are conditional; the others are fed the same codes."""

    def __init__(self, model: NARTransformer, plan: Plan, rows: int) -> None:
        self.model, self.plan = model, plan
        weight = model.tok_embeddings.weight
        self._values = weight.new_zeros(rows, plan.length, weight.shape[1])  # embeddings of the codes so far
        self._states: list[Tensor] = []  # for each head [R, N + 1, D] of slots and, last, of the condition
        self.carried: dict[int, Tensor] = {}

    def set_reference(self, images: Any, actions: Any, contrast: Any = None, words: Any = ()) -> None:
        """A condition is all that these models are told."""

    def inputs(self, step: int) -> Tensor:
        """[R, n, D]: the codes decided by the step before."""
        slots = self.plan.steps[step].run
        return self.model.placed(self.plan.feed.inputs(self._values, slots), slots)

    def predict(
        self, step: int, states: Sequence[Tensor], rows: int, before: Sequence[Tensor] | None
    ) -> Distribution:
        if before is not None:
            self._states = [torch.cat([torch.zeros_like(self._values), x[:, None]], dim=1) for x in before]
        for kept, new in zip(self._states, states, strict=True):
            kept[:, self.plan.steps[step].run] = new
        groups = self.plan.read_groups[step]
        parts = [
            read_out(
                [self.model.heads[head] for head in group.heads],
                [self._states[head][:rows, group.source[:, n]] for n, head in enumerate(group.heads)],
            )
            for group in groups
        ]
        return joined(parts, torch.cat([group.slots for group in groups]).argsort())

    def commit(self, step: int, codes: Tensor, vectors: Tensor | None = None) -> None:
        """The codes [B, n] of a step are chosen; `vectors` [B, n, D], if given, are fed in their place."""
        values = self.model.tok_embeddings(codes) if vectors is None else vectors
        self._values[:, self.plan.steps[step].decide] = values.repeat(len(self._values) // len(values), 1, 1)

    def fork(self) -> NARWriter:
        """A copy that goes on by itself: what is committed to it is not committed here."""
        other = copy(self)
        other._values, other._states = self._values.clone(), [states.clone() for states in self._states]
        return other


# The published sampler ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UntilCount(Guidance):
    """Guidance t = scale - 1 as long as at most `count` codes have been written before the step, then off
    (`cfg_interval`, which counts codes and not steps). A negative count: never off."""

    scale: float
    count: int = -1

    def __post_init__(self) -> None:
        check_scales(self.scale)

    def weight(self, plan: Plan, step: int) -> float:
        written = sum(len(before.decide) for before in plan.steps[:step])
        return self.scale - 1 if self.count < 0 or written <= self.count else 0.0


class SlotNoise(GeneratorNoise):
    """One `torch.multinomial` for each slot of a step in turn, all rows together."""

    def draw(self, probs: Tensor, places: Tensor, purpose: str = SAMPLE) -> Tensor:
        slots = [super(SlotNoise, self).draw(part, places, purpose) for part in probs.split(1, dim=1)]
        return torch.cat(slots, dim=1)


def sampler_of(*, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Sampler:
    """By the published options: at least the likeliest code stays, and a temperature is never 0."""
    return Sampler(
        temperature=max(temperature, LEAST_TEMPERATURE),
        top_k=1 if top_p <= 0 else top_k,
        top_p=min(max(top_p, 0.0), 1.0),
    )
