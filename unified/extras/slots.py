"""The slots of an image that is written: what each is fed, for whole batches and step by step."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unified.extras.transition import Transition, moved, onward
from unified.heads.distribution import Distribution, joined
from unified.layout.layout import WriteGroup
from unified.layout.patch_merging import folded_steps
from unified.likelihood import read_out
from unified.orders import Plan
from unified.orders.feeds import Carry
from unified.orders.shapes import Shape, area

if TYPE_CHECKING:
    from unified.decoding.drawing import Contrast, Image
    from unified.model import UnifiedModel


class SlotEmbedding(nn.Module):
    """What a WRITE slot reads besides earlier codes: a start vector where none are known, its map's size, and
    with `references` what the latest image before shows at its place. An edit, a sketch or a frame is mostly
    a copy; that a code stands where another image has one is hard to learn from relative positions. With
    `transition` that is first changed as the actions said since would; with `copies` the same is brought to
    the slot's state, as much of it as the state asks for. With `own` a slot's state is made from what it was
    fed once more: folded, four slots share what the backbone says."""

    def __init__(
        self,
        width: int,
        max_side: int,
        references: bool = False,
        copies: bool = False,
        own: bool = False,
        transition: int = 0,
    ) -> None:
        super().__init__()
        self.own = OwnState(width) if own else None
        self.reference = nn.Linear(width, width, bias=False) if references else None
        self.copying = nn.Linear(width, 1) if copies else None
        self.transition = Transition(width, transition) if transition else None
        self.start = nn.Parameter(torch.zeros(width))
        self.height = nn.Embedding(max_side + 1, width)
        self.width = nn.Embedding(max_side + 1, width)

    @property
    def look_back(self) -> bool:
        """Whether the image before is looked at."""
        return self.reference is not None or self.copying is not None

    def forward(self, fed: Tensor, starts: Tensor, sizes: Tensor, before: Tensor) -> Tensor:
        """fed and before (zero where no image was) [..., T, D], starts [T] bool, sizes [T, 2] ->
        [..., T, D]."""
        fed = torch.where(starts[:, None], self.start.to(fed.dtype), fed)
        fed = fed + self.height(sizes[:, 0]) + self.width(sizes[:, 1])
        return fed if self.reference is None else fed + self.reference(before)

    def shown(self, values: Tensor, table: Tensor, groups: Sequence[WriteGroup]) -> Sequence[Tensor | None]:
        """[N, R, D] for each group: what the slots of an image are told of the one before, zero without one,
        None if they are never told. values and table [B, T, D] are the embeddings of all ids as codes and as
        others."""
        if not self.look_back:
            return [None] * len(groups)
        images = [_image(values, group) for group in groups]
        if self.transition is None or not groups:
            return images
        acted = [(group.acted >= 0).any(dim=1) for group in groups]
        said = [_said(table, group) for group in groups]
        return moved(self.transition, images, [group.plan.shapes[-1] for group in groups], said, acted)

    def nothing_shown(self, values: Tensor) -> Tensor:
        """[0, D], in training from every weight: a batch without images to draw has a gradient for each."""
        if self.transition is None or not self.training:
            return values[:0, 0]
        none = values.new_zeros(0, 1, 1, values.shape[-1])
        return self.transition(none, torch.zeros(0, 2, device=values.device), none[:, 0, 0]).flatten(0, 2)

    def states(self, states: Tensor, inputs: Tensor, before: Tensor) -> Tensor:
        """What the backbone says of slots, what they were fed (`forward`), and what the image before shows at
        their places, each [..., D] -> their states [..., D]."""
        if self.own is not None:
            states = self.own(states, inputs)
        if self.copying is None:
            return states
        shown = nn.functional.rms_norm(before.float(), before.shape[-1:])
        return states + (self.copying(states) * shown).to(states.dtype)


class OwnState(nn.Module):
    """A small network for each slot alone: its share of a position's state, and its own input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shared = nn.Linear(width, width)
        self.fed = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, states: Tensor, inputs: Tensor) -> Tensor:
        """[..., D] both -> [..., D]."""
        given = nn.functional.rms_norm(inputs.float(), inputs.shape[-1:]).to(states.dtype)
        return states + self.out(nn.functional.silu(self.shared(states) + self.fed(given)))


@dataclass(frozen=True)
class SlotTable:
    """Of some slots of a plan, on a device: `slots` [n], `starts` [n] bool, `sizes` [n, 2]."""

    slots: Tensor
    starts: Tensor
    sizes: Tensor


@lru_cache(maxsize=256)
def slot_table(plan: Plan, device: torch.device) -> SlotTable:
    """All slots of a plan."""
    return SlotTable(*(x.to(device) for x in (plan.slots, plan.feed.starts, plan.sizes)))


@lru_cache(maxsize=256)
def run_tables(plan: Plan, device: torch.device) -> tuple[SlotTable, ...]:
    """The slots that each step of a plan runs."""
    starts, sizes = plan.feed.starts, plan.sizes
    parts = [(step.run, starts[step.run], sizes[step.run]) for step in plan.steps]
    return tuple(SlotTable(*(x.to(device) for x in part)) for part in parts)


class Writer:
    """The codes of an image so far, as embeddings, from which the plan derives what the next step is fed."""

    def __init__(self, model: UnifiedModel, plan: Plan, rows: int) -> None:
        self.model, self.plan = model, plan
        width, device = len(model.slots.start), model.device
        self.values = torch.zeros(rows, plan.length, width, device=device, dtype=model.dtype)
        self.carry: Carry = {}
        self.runs = run_tables(plan, device)
        self.before = torch.zeros_like(self.values)
        self.given = self.values[:, :0]  # inputs of the latest step's slots
        self.steps = folded_steps(plan, model.vocabulary.merge)
        self.read: list[
            Tensor
        ] = []  # for each head, states [R, T + 1, D] of slots and, last, of what is before
        self.onward: dict[int, Tensor] = {}  # by conversation

    def refer(
        self,
        images: Sequence[Image | None],
        actions: Sequence[Sequence[int]],
        contrast: Contrast | None = None,
    ) -> None:
        """The latest image of each conversation, used where the size fits, and the action ids said since.
        There may be fewer than rows: null rows repeat them."""
        slots, shape = self.model.slots, self.plan.shapes[-1]
        fitting = {n: image for n, image in enumerate(images) if image is not None and image.shape == shape}
        if not slots.look_back or not fitting:
            return
        numbers = list(fitting)
        still = torch.stack([self._still(image) for image in fitting.values()])  # [N, R, D]
        shown = self._moved(still, shape, [actions[n] for n in numbers])
        vectors = self.plan.at_slots(shown.to(self.values.dtype), self.plan.slots)
        for number, vector in zip(numbers, vectors, strict=True):
            self.before[number :: len(images)] = vector
        if contrast is not None:
            other = self._moved(still, shape, [contrast.actions[n] for n in numbers])
            shown = shown + contrast.weight * (shown - other)
        made = zip(numbers, onward(shown, still), strict=True)
        self.onward = {n: vectors for n, vectors in made if slots.transition is not None and actions[n]}

    def _still(self, image: Image) -> Tensor:
        """[R, D]: what is gone on from."""
        if image.vectors is not None:
            return image.vectors
        codes = torch.tensor(list(image.codes), device=self.values.device)
        still: Tensor = self.model.head.embed(codes)
        return still

    def _moved(self, images: Tensor, shape: Shape, actions: Sequence[Sequence[int]]) -> Tensor:
        """Images [N, R, D] after the actions said."""
        transition = self.model.slots.transition
        if transition is None:
            return images
        said = torch.stack([self._said(ids) for ids in actions])
        acted = torch.tensor([len(ids) > 0 for ids in actions], device=images.device)
        return moved(transition, [images], [shape], [said], [acted])[0]

    def _said(self, actions: Sequence[int]) -> Tensor:
        """[D]: the sum of the actions' embeddings."""
        ids = torch.tensor(list(actions), dtype=torch.long, device=self.values.device)
        table = self.model.get_input_embeddings()
        return table(self.model.vocabulary.table_rows(ids)).sum(dim=0)

    def inputs(self, step: int) -> Tensor:
        """[R, n, D]: inputs of the step's positions."""
        device, run = self.values.device, self.runs[step]
        fed = self.plan.feed.inputs(self.values, self.plan.steps[step].run, self.carry)
        self.given = inputs = self.model.slots(fed, run.starts, run.sizes, self.before[:, run.slots])
        folded = self.steps[step]
        if self.model.fold is None or not len(folded.place):
            return inputs
        positions = inputs[:, folded.kept.to(device)]
        positions[:, folded.place.to(device)] = self.model.fold.merge(inputs[:, folded.members.to(device)])
        return positions

    def predict(
        self, step: int, states: Sequence[Tensor], rows: int, before: Sequence[Tensor] | None
    ) -> Distribution:
        """What is predicted of the slots that a step decides, for the first `rows` rows. `states`: for each
        head, those [R, n, D] of the step's positions, fed with `inputs`; `before`, at the first step: those
        [R, D] of the position before the first slot."""
        own = [self._slot_states(step, hidden) for hidden in states]
        if self.plan.own:
            found: Distribution = self.model.head.distribution(own[0][:rows])
            return found
        if before is not None:
            self.read = [torch.cat([torch.zeros_like(self.values), x[:, None]], dim=1) for x in before]
        slots = self.runs[step].slots
        for kept, new in zip(self.read, own, strict=True):
            kept[:, slots] = new.to(kept.dtype)
        parts, places = [], []
        for group in self.plan.read_groups[step]:
            given = [self.read[head][:rows, group.source[:, n]] for n, head in enumerate(group.heads)]
            parts.append(read_out(self.model, group.heads, given))
            places.append(group.slots)
        return joined(parts, torch.cat(places).argsort())

    def _slot_states(self, step: int, hidden: Tensor) -> Tensor:
        """What the backbone says of the step's positions [R, n, D] -> states of its slots."""
        folded, device = self.steps[step], hidden.device
        states = hidden
        if self.model.fold is not None and len(folded.place):
            states = hidden[:, folded.slot.to(device)]
            states[:, folded.members.to(device)] = self.model.fold.split(hidden[:, folded.place.to(device)])
        return self.model.slots.states(states, self.given, self.before[:, self.runs[step].slots])

    def commit(self, step: int, codes: Tensor, vectors: Tensor | None = None) -> None:
        """Codes [B, n] of the step, counted from 0 (or embeddings [B, n, D] in their place). B may be a
        fraction of the rows: null rows repeat it."""
        values = self.model.head.embed(codes) if vectors is None else vectors
        copies = len(self.values) // len(codes)
        slots = self.plan.steps[step].to(self.values.device).decide
        self.values[:, slots] = values.repeat(copies, 1, 1).to(self.values.dtype)

    def fork(self) -> Writer:
        """A copy that goes on by itself: what is committed to it is not committed here."""
        other = copy(self)
        other.values, other.carry = self.values.clone(), dict(self.carry)
        other.read = [states.clone() for states in self.read]
        return other


def fed(values: Tensor, group: WriteGroup, shown: Tensor | None) -> tuple[Tensor, ...]:
    """For all M slots of a group: row [M], position [M], what earlier codes feed it [M, D], whether it starts
    [M], its map's size [M, 2] and the image before at its place [M, D]. values [B, T, D] are the embeddings
    of all codes, shown [N, R, D] the images before (`SlotEmbedding.shown`)."""
    plan, count, table = group.plan, len(group.rows), slot_table(group.plan, values.device)
    rows, slots = group.rows[:, None].expand(-1, plan.length), group.slots()
    fed = plan.feed.inputs(values[rows, slots], plan.slots)  # [N, T, D]
    before = torch.zeros_like(fed) if shown is None else plan.at_slots(shown, plan.slots)
    return (
        rows.flatten(), slots.flatten(), fed.flatten(0, 1), table.starts.repeat(count),
        table.sizes.repeat(count, 1), before.flatten(0, 1),
    )  # fmt: skip


def _image(values: Tensor, group: WriteGroup) -> Tensor:
    """[N, R, D]: the embeddings of the image before, zero without one."""
    codes = torch.arange(area(group.plan.shapes[-1:]), device=values.device)
    image = values[group.rows[:, None], group.before.clamp(min=0)[:, None] + codes]
    return image * (group.before >= 0)[:, None, None]


def _said(table: Tensor, group: WriteGroup) -> Tensor:
    """[N, D]: the sum of the embeddings of the actions since, zero without any."""
    vectors = table[group.rows[:, None], group.acted.clamp(min=0)]  # [N, A, D]
    return (vectors * (group.acted >= 0)[..., None]).sum(dim=1)


def nothing_fed(values: Tensor, shown: Tensor) -> tuple[Tensor, ...]:
    none = torch.zeros(0, dtype=torch.long, device=values.device)
    return none, none, values[:0, 0], none.bool(), none[:, None].expand(0, 2), shown
