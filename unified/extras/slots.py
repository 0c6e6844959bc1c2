"""The slots of a batch that are written: what each is fed, in one pass over all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from unified.extras.extra import Extras
from unified.extras.references import References
from unified.layout.layout import WriteGroup
from unified.orders import Plan


class SlotEmbedding(nn.Module):
    """What a WRITE slot reads besides earlier codes: a start vector where none are known, and the size of its
    map."""

    def __init__(self, width: int, max_side: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(width))
        self.height = nn.Embedding(max_side + 1, width)
        self.width = nn.Embedding(max_side + 1, width)

    def initialise(self, std: float) -> None:
        nn.init.normal_(self.start, std=std)

    def forward(self, fed: Tensor, starts: Tensor, sizes: Tensor) -> Tensor:
        """fed [..., T, D], what earlier codes give; starts [T] bool; sizes [T, 2] -> [..., T, D]."""
        fed = torch.where(starts[:, None], self.start.to(fed.dtype), fed)
        embedded: Tensor = fed + self.height(sizes[:, 0]) + self.width(sizes[:, 1])
        return embedded


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


@dataclass(frozen=True)
class WrittenSlots:
    """All M slots of a batch: their `rows` [M] and `places` [M] among the ids, `inputs` [M, D], and the
    `reference` image at their places [M, D]."""

    rows: Tensor
    places: Tensor
    inputs: Tensor
    reference: Tensor


def written_slots(
    embedding: SlotEmbedding, extras: Extras, codes: Tensor, others: Tensor, groups: Sequence[WriteGroup]
) -> WrittenSlots:
    """codes and others [B, T, D]: embeddings of all ids as codes and as others. Every module is called once,
    whatever is drawn: sharded parameters count calls, and each weight has a gradient."""
    words = extras.reads_words
    given = [References.of(codes, others, g, words=words) for g in groups] if extras.reads_reference else []
    found = extras.references(given or [References.none(codes)])
    images = [one.images for one in found] if given else [None] * len(groups)
    parts = [_fed(codes, *pair) for pair in zip(groups, images, strict=True)]
    parts = parts or [_nothing_fed(codes, found[0].images)]
    rows, places, fed, starts, sizes, reference = (torch.cat(part) for part in zip(*parts, strict=True))
    inputs = extras.slot_inputs(embedding(fed, starts, sizes), reference)
    return WrittenSlots(rows, places, inputs, reference)


def _fed(codes: Tensor, group: WriteGroup, images: Tensor | None) -> tuple[Tensor, ...]:
    """For all M slots of a group: row [M], place [M], what earlier codes feed it [M, D], whether it starts
    [M], its map's size [M, 2] and the reference image at its place [M, D]. images: [N, R, D]."""
    plan, count, table = group.plan, len(group.rows), slot_table(group.plan, codes.device)
    rows, places = group.rows[:, None].expand(-1, plan.length), group.slots()
    fed = plan.feed.inputs(codes[rows, places], plan.slots)  # [N, T, D]
    reference = torch.zeros_like(fed) if images is None else plan.at_slots(images, plan.slots)
    return (
        rows.flatten(), places.flatten(), fed.flatten(0, 1), table.starts.repeat(count),
        table.sizes.repeat(count, 1), reference.flatten(0, 1),
    )  # fmt: skip


def _nothing_fed(codes: Tensor, images: Tensor) -> tuple[Tensor, ...]:
    """The same of a batch without images; images: [0, R, D]."""
    none = torch.zeros(0, dtype=torch.long, device=codes.device)
    return none, none, codes[:0, 0], none.bool(), none[:, None].expand(0, 2), images.flatten(0, 1)
