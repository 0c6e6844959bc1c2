"""The taxonomy of the survey of autoregressive models in vision (arXiv 2411.05902) as data on every
registered order: what the unit is, when a slot's value is known, what a slot is fed, where it is read
out. The survey's class is metadata, not a class of code: some techniques belong to several."""

from __future__ import annotations

from dataclasses import dataclass

from unified.orders import ORDERS, Plan, plan_for, takes_schedule


@dataclass(frozen=True)
class Row:
    """`paradigm`: the survey's (pixel, token, scale); `label`: the step of a slot; `feed`, `read_out`: the
    kinds of the cross table; `steps`: on a grid of 4 x 4 (maps 1, 2 and 4)."""

    order: str
    paradigm: str
    label: str
    feed: str
    read_out: str
    steps: int


LABELS = {
    "next_scale": "map",
    "residual": "map",
    "raster": "index",
    "diagonal": "row + column",
    "nar": "row + column",
    "masked": "rank in a permutation, cosine schedule",
}
FEEDS = {
    "ResizeFeed": "previous map",
    "ResidualFeed": "sum of maps",
    "GatherFeed": "known neighbours",
    "SelfFeed": "own code",
}


def table() -> list[Row]:
    """One row for every registered order."""
    return [row(name) for name in ORDERS]


def row(name: str) -> Row:
    """Derived from the plan, but for the words of the label."""
    plan = tiny(name)
    paradigm = "scale" if takes_schedule(name) and len(plan.shapes) > 1 else "token"
    feed = FEEDS.get(type(plan.feed).__name__, type(plan.feed).__name__)
    read_out = "own slot" if plan.own else f"other slots, {plan.heads} head{'s' * (plan.heads > 1)}"
    return Row(name, paradigm, LABELS.get(name, "its own"), feed, read_out, len(plan.steps))


def tiny(name: str) -> Plan:
    """The plan of a 4 x 4 grid, with smaller maps where the order takes a schedule."""
    shapes = ((1, 1), (2, 2), (4, 4)) if takes_schedule(name) else ((4, 4),)
    return plan_for(name, shapes)
