"""The slots of an image that is written: what each is fed, for whole batches and step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unified.folding import folded_steps
from unified.layout import WriteGroup
from unified.orders import Plan
from unified.vocabulary import Shape

if TYPE_CHECKING:
    from unified.model import UnifiedModel


class SlotEmbedding(nn.Module):
    """What a WRITE slot reads besides earlier codes: a start vector where none are known, its map's size, and
    with `references` what the latest image before shows at its place. An edit, a sketch or a frame is mostly
    a copy; that a code stands where another image has one is hard to learn from relative positions. With
    `copies` the same is brought to the slot's state, as much of it as the state asks for. With `own` a slot's
    state is made from what it was fed once more: folded, four slots share what the backbone says."""

    def __init__(
        self, width: int, max_side: int, references: bool = False, copies: bool = False, own: bool = False
    ) -> None:
        super().__init__()
        self.own = OwnState(width) if own else None
        self.reference = nn.Linear(width, width, bias=False) if references else None
        self.copying = nn.Linear(width, 1) if copies else None
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


class Writer:
    """The codes of an image so far, as embeddings, from which the plan derives what the next step is fed."""

    def __init__(self, model: UnifiedModel, plan: Plan, rows: int) -> None:
        self.model, self.plan = model, plan
        width, device = len(model.slots.start), model.device
        self.values = torch.zeros(rows, plan.length, width, device=device, dtype=model.dtype)
        self.feed = plan.feed.to(device=device, dtype=model.dtype)
        self.before = torch.zeros_like(self.values)
        self.given = self.values[:, :0]  # inputs of the latest step's slots
        self.steps = folded_steps(plan, model.vocabulary.fold)

    def refer(self, images: Sequence[tuple[Shape, Sequence[int]] | None]) -> None:
        """The latest image of each conversation, size and codes of its last map; used where the size fits.
        There may be fewer than rows: null rows repeat them."""
        if not self.model.slots.look_back:
            return
        copies, plan = len(self.values) // len(images), self.plan
        for number, image in enumerate(images):
            if image is not None and image[0] == plan.shapes[-1]:
                codes = torch.tensor(image[1], device=self.values.device)
                vectors = plan.places.to(self.values) @ self.model.head.embed(codes)
                self.before[number :: len(images)] = vectors.expand(copies, -1, -1)

    def inputs(self, step: int) -> Tensor:
        """[R, n, D]: inputs of the step's positions."""
        device = self.values.device
        slots = self.plan.steps[step].to(device)
        fed = self.feed[slots] @ self.values
        starts, sizes = self.plan.starts.to(device)[slots], self.plan.sizes.to(device)[slots]
        self.given = inputs = self.model.slots(fed, starts, sizes, self.before[:, slots])
        folded = self.steps[step]
        if self.model.fold is None or not len(folded.place):
            return inputs
        positions = inputs[:, folded.kept.to(device)]
        positions[:, folded.place.to(device)] = self.model.fold.merge(inputs[:, folded.members.to(device)])
        return positions

    def states(self, step: int, hidden: Tensor) -> Tensor:
        """What the backbone says of the step's positions [R, n, D], fed with `inputs` -> states of its
        slots."""
        folded, device = self.steps[step], hidden.device
        states = hidden
        if self.model.fold is not None and len(folded.place):
            states = hidden[:, folded.slot.to(device)]
            states[:, folded.members.to(device)] = self.model.fold.split(hidden[:, folded.place.to(device)])
        return self.model.slots.states(states, self.given, self.before[:, self.plan.steps[step].to(device)])

    def commit(self, step: int, codes: Tensor, vectors: Tensor | None = None) -> None:
        """Codes [B, n] of the step, counted from 0 (or embeddings [B, n, D] in their place). B may be a
        fraction of the rows: null rows repeat it."""
        values = self.model.head.embed(codes) if vectors is None else vectors
        copies = len(self.values) // len(codes)
        slots = self.plan.steps[step].to(self.values.device)
        self.values[:, slots] = values.repeat(copies, 1, 1).to(self.values.dtype)


def fed(values: Tensor, group: WriteGroup, references: bool) -> tuple[Tensor, ...]:
    """For all M slots of a group: row [M], position [M], what earlier codes feed it [M, D], whether it starts
    [M], its map's size [M, 2] and the image before at its place [M, D]. values [B, T, D] are the embeddings
    of all codes."""
    plan, count = group.plan, len(group.rows)
    rows, slots = group.rows[:, None].expand(-1, plan.length), group.slots()
    fed = plan.feed.to(values) @ values[rows, slots]  # [N, T, D]
    starts, sizes = plan.starts.to(values.device), plan.sizes.to(values.device)
    before = _before(values, group) if references else torch.zeros_like(fed)
    return (
        rows.flatten(), slots.flatten(), fed.flatten(0, 1), starts.repeat(count), sizes.repeat(count, 1),
        before.flatten(0, 1),
    )  # fmt: skip


def _before(values: Tensor, group: WriteGroup) -> Tensor:
    """[N, T, D]: what the image before shows at the place of each slot, zero without one."""
    places = group.plan.places.to(values)
    codes = torch.arange(places.shape[1], device=values.device)
    image = values[group.rows[:, None], group.before.clamp(min=0)[:, None] + codes]  # [N, R, D]
    return places @ (image * (group.before >= 0)[:, None, None])


def nothing_fed(values: Tensor) -> tuple[Tensor, ...]:
    none = torch.zeros(0, dtype=torch.long, device=values.device)
    return none, none, values[:0, 0], none.bool(), none[:, None].expand(0, 2), values[:0, 0]
