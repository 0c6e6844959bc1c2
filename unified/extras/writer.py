"""One image being written by the default model, step by step of its plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from unified.extras.extra import Extras
from unified.extras.patch_merging import Merging
from unified.extras.references import ActionContrast, Image, References, rescaled
from unified.extras.slots import SlotEmbedding, run_tables
from unified.heads.distribution import Distribution, joined
from unified.layout.patch_merging import merged_steps
from unified.likelihood import read_out
from unified.orders import Plan
from unified.orders.feeds import Carry


class Writer:
    """The codes of an image so far in `rows` rows, as embeddings, from which the plan derives what the next
    step is fed. `heads` read slots out; `embed_ids`: action ids [n] -> embeddings [n, D]. `carried`: by
    conversation, embeddings [R, D] of the reference image as extras changed it, rescaled, which may stand in
    for those of the codes when the next image refers to this one: movements of less than a code are kept."""

    def __init__(
        self,
        plan: Plan,
        rows: int,
        *,
        slots: SlotEmbedding,
        extras: Extras,
        merging: Merging,
        heads: Sequence[Any],
        embed_ids: Callable[[Tensor], Tensor],
    ) -> None:
        self.plan, self.slots, self.extras, self.merging = plan, slots, extras, merging
        self.heads, self.embed_ids = heads, embed_ids
        self.values = slots.start.new_zeros(rows, plan.length, len(slots.start), requires_grad=False)
        self.feed_state: Carry = {}
        self.runs = run_tables(plan, self.values.device)
        self.reference = torch.zeros_like(self.values)  # at the places of all slots
        self.given = self.values[:, :0]  # inputs of the latest step's slots
        self.steps = merged_steps(plan, merging.side)
        self.read: list[Tensor] = []  # for each head, states [R, T + 1, D]: slots, then the position before
        self.carried: dict[int, Tensor] = {}

    def set_reference(
        self,
        images: Sequence[Image | None],
        actions: Sequence[Sequence[int]],
        contrast: ActionContrast | None = None,
        words: Sequence[Sequence[int]] = (),
    ) -> None:
        """The latest image of each conversation, used where the size fits, the action ids since, and the text
        ids that the turn says since. There may be fewer than rows: null rows repeat them. `contrast` changes
        what is `carried` alone."""
        shape = self.plan.shapes[-1]
        fitting = {n: image for n, image in enumerate(images) if image is not None and image.shape == shape}
        if not self.extras.reads_reference or not fitting:
            return
        numbers = list(fitting)
        before = torch.stack([self._embeddings(image) for image in fitting.values()])  # [N, R, D]
        said = [list(words[n]) if words else [] for n in numbers]
        after = self._changed(before, [actions[n] for n in numbers], said)
        vectors = self.plan.at_slots(after.to(self.values.dtype), self.plan.slots)
        for number, vector in zip(numbers, vectors, strict=True):
            self.reference[number :: len(images)] = vector
        if after is before:  # no extra changes it
            return
        if contrast is not None:
            other = self._changed(before, [contrast.actions[n] for n in numbers], said)
            after = after + contrast.weight * (after - other)
        made = zip(numbers, rescaled(after, before), strict=True)
        self.carried = {n: vectors for n, vectors in made if actions[n]}

    def _embeddings(self, image: Image) -> Tensor:
        """[R, D]: carried ones, or those of the codes."""
        if image.vectors is not None:
            return image.vectors
        embedded: Tensor = self.heads[0].embed(torch.tensor(list(image.codes), device=self.values.device))
        return embedded

    def _changed(
        self, images: Tensor, actions: Sequence[Sequence[int]], words: Sequence[Sequence[int]]
    ) -> Tensor:
        """Images [N, R, D] as extras change them after these action and text ids; the same tensor if none
        does."""
        acted = torch.tensor([len(some) > 0 for some in actions], device=images.device)
        given = References(
            images,
            self.plan.shapes[-1],
            self._summed(actions),
            acted,
            self._summed(words) if self.extras.reads_words else None,
            torch.ones_like(acted),
        )
        return self.extras.references([given])[0].images

    def _summed(self, lists: Sequence[Sequence[int]]) -> Tensor:
        """Sums [N, D] of the embeddings of ids [N][n]."""
        device = self.values.device
        ids = [torch.tensor(list(some), dtype=torch.long, device=device) for some in lists]
        return torch.stack([self.embed_ids(some).sum(dim=0) for some in ids])

    def inputs(self, step: int) -> Tensor:
        """[R, n, D]: inputs of the step's positions."""
        run = self.runs[step]
        fed = self.plan.feed.inputs(self.values, self.plan.steps[step].run, self.feed_state)
        embedded = self.slots(fed, run.starts, run.sizes)
        self.given = self.extras.slot_inputs(embedded, self.reference[:, run.slots])
        return self.merging.merge_step(self.given, self.steps[step])

    def predict(
        self, step: int, states: Sequence[Tensor], rows: int, before: Sequence[Tensor] | None
    ) -> Distribution:
        """The distribution of the codes that a step decides, for the first `rows` rows. `states`: for each
        head, those [R, n, D] of the step's positions, fed with `inputs`; `before`, at the first step: those
        [R, D] of the position before the first slot."""
        own = [self._slot_states(step, hidden) for hidden in states]
        if self.plan.own:
            found: Distribution = self.heads[0].distribution(own[0][:rows])
            return found
        if before is not None:
            self.read = [torch.cat([torch.zeros_like(self.values), x[:, None]], dim=1) for x in before]
        slots = self.runs[step].slots
        for kept, new in zip(self.read, own, strict=True):
            kept[:, slots] = new.to(kept.dtype)
        parts, places = [], []
        for group in self.plan.read_groups[step]:
            given = [self.read[head][:rows, group.source[:, n]] for n, head in enumerate(group.heads)]
            parts.append(read_out([self.heads[head] for head in group.heads], given))
            places.append(group.slots)
        return joined(parts, torch.cat(places).argsort())

    def _slot_states(self, step: int, hidden: Tensor) -> Tensor:
        """Hidden states of the step's positions [R, n, D] -> states of its slots [R, m, D]."""
        states = self.merging.split_step(hidden, self.steps[step])
        return self.extras.slot_states(states, self.given, self.reference[:, self.runs[step].slots])

    def commit(self, step: int, codes: Tensor, vectors: Tensor | None = None) -> None:
        """Codes [B, n] of the step, counted from 0 (or embeddings [B, n, D] in their place). B may be a
        fraction of the rows: null rows repeat it."""
        values = self.heads[0].embed(codes) if vectors is None else vectors
        copies = len(self.values) // len(codes)
        slots = self.plan.steps[step].to(self.values.device).decide
        self.values[:, slots] = values.repeat(copies, 1, 1).to(self.values.dtype)

    def fork(self) -> Writer:
        """A copy that goes on by itself: what is committed to it is not committed here."""
        other = copy(self)
        other.values, other.feed_state = self.values.clone(), dict(self.feed_state)
        other.read = [states.clone() for states in self.read]
        return other
