"""The interface between a session and a model while an image is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from unified.cache.kv_cache import KVCache
from unified.decoding.context import Reads
from unified.decoding.noise import Noise
from unified.decoding.sampling import Sampler
from unified.extras.references import ActionContrast, Image
from unified.heads.distribution import Distribution
from unified.orders import Plan


class WriterState(Protocol):
    """One image being written in a batch of rows (conditional rows first, null rows after them)."""

    @property
    def carried(self) -> Mapping[int, Tensor]:
        """By conversation, embeddings [R, D] that may stand in for those of this image's codes where the next
        image refers to it."""

    def set_reference(
        self,
        images: Sequence[Image | None],
        actions: Sequence[Sequence[int]],
        contrast: ActionContrast | None = None,
        words: Sequence[Sequence[int]] = (),
    ) -> None:
        """The latest image of each conversation, the action ids since, and the text ids that the turn says
        since."""

    def inputs(self, step: int) -> Tensor: ...  # [R, n, D] inputs of the step's positions

    def predict(
        self, step: int, states: Sequence[Tensor], rows: int, before: Sequence[Tensor] | None
    ) -> Distribution:
        """What is predicted of the slots that a step decides, for the first `rows` rows, from the states of
        its positions, for each head [R, n, D], and at the first step of the position before [R, D]."""

    def commit(self, step: int, codes: Tensor, vectors: Tensor | None = None) -> None: ...

    def fork(self) -> WriterState:
        """A copy that goes on by itself: what is committed to it is not committed here."""
        ...


class Generator(Reads, Protocol):
    """What a session needs of a model: our own, or a published one."""

    head: Any

    @property
    def layer_count(self) -> int:
        """Layers of the backbone: those that a depth policy is asked for."""

    def new_cache(self, rows: int = 1, capacity: int = ..., *, static: bool = False) -> KVCache: ...

    def null_stream(self, ids: Sequence[int]) -> list[int]: ...

    def write(self, plan: Plan, rows: int, condition: object = None) -> WriterState: ...

    def text_logits(self, hidden: Tensor) -> Tensor: ...


@dataclass
class Choice:
    """One step of an image, before it is committed. A hook may replace `codes` [B, n], or give `vectors` [B,
    n, C] to be fed in place of those of the codes. `predicted`: guided and unfiltered, of the slots [n]."""

    plan: Plan
    step: int
    codes: Tensor
    log_probs: Tensor
    predicted: Distribution
    sampler: Sampler
    noise: Noise
    vectors: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """[B, n, S, V], of heads that have them."""
        logits: Tensor = self.predicted.logits  # type: ignore[attr-defined]
        return logits

    @property
    def slots(self) -> Tensor:
        return self.plan.steps[self.step].decide


Hook = Callable[[Choice], Choice]


@dataclass
class Drawing:
    """A finished image: `codes` [B, T] from 0 in slot order, `log_probs` [B, T] of each as it was drawn."""

    plan: Plan
    codes: Tensor
    log_probs: Tensor

    def maps(self) -> list[Tensor]:
        """Codes by map, each [B, h * w]."""
        return [self.codes[:, part] for part in self.plan.map_slices]

    def read(self) -> Tensor:
        """[B, R]: the codes of the READ part."""
        return self.codes[:, self.plan.read]
