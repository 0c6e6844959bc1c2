"""Orders: in which steps the codes of an image are written. To add one, write a function from map sizes to a
`Plan` and give it a line in `ORDERS` (docs/add_a_part.md); the tests for leaks, caches and packing run on it
by themselves. Imports `tokenizers`."""

from dataclasses import replace
from functools import lru_cache

from unified.orders.blocks import blocks
from unified.orders.diagonal import diagonal
from unified.orders.feeds import Feed, GatherFeed, SelfFeed
from unified.orders.masked import masked
from unified.orders.naming import check_parameters, parsed
from unified.orders.nar import nar
from unified.orders.next_scale import next_scale
from unified.orders.plan import Order, Plan, Step
from unified.orders.raster import raster
from unified.orders.read_outs import BEFORE, NOTHING, ReadOuts
from unified.orders.residual import residual
from unified.orders.rest import rest
from unified.orders.rings import rings
from unified.orders.shapes import Shapes

ORDERS: dict[str, Order] = {
    "next_scale": next_scale,
    "residual": residual,
    "raster": raster,
    "diagonal": diagonal,
    "nar": nar,
    "masked": masked,
    "rings": rings,
    "rest": rest,
    "blocks": blocks,
}

LINEAR = frozenset({"raster", "masked", "rest"})
"""Orders that mean something without a grid: an image is then one map 1 x n, a line of codes."""


def needs_grid(order: str) -> bool:
    """Whether a registered order goes by rows and columns, so that a line of codes has no such order."""
    name, parameters = parsed(order)
    return name not in LINEAR or parameters.get("axis") == "columns"


def check_order(order: str) -> None:
    """ValueError, in one line, for the name of no registered order."""
    plan_for(order, ((2, 2),))


def plan_for(order: str, shapes: Shapes, data: tuple[int, ...] = ()) -> Plan:
    """The plan of a registered order for these map sizes. `order`: its name, with parameters where it takes
    any: `raster(axis='columns')`. `data`: what else a sample needs to say (a permutation, for instance), to
    an order that declares it. Unknown name, parameter or superfluous data: ValueError.
    The same arguments give the same object."""
    return made(order, shapes, data)


@lru_cache(maxsize=256)
def takes_schedule(order: str) -> bool:
    """Whether an order writes maps that grow; others write the last map alone."""
    try:
        plan_for(order, ((2, 2), (4, 4)))
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)
def made(order: str, shapes: Shapes, data: tuple[int, ...]) -> Plan:
    """A new plan, see `plan_for`."""
    name, parameters = parsed(order)
    if name not in ORDERS:
        raise ValueError(f"unknown order {order!r}: registered are {', '.join(ORDERS)}")
    given = {**parameters, "data": data} if data else parameters
    check_parameters(name, ORDERS[name], given)
    return replace(ORDERS[name](shapes, **given), order=order, data=data)


__all__ = [
    "BEFORE",
    "LINEAR",
    "NOTHING",
    "ORDERS",
    "Feed",
    "GatherFeed",
    "Order",
    "Plan",
    "ReadOuts",
    "SelfFeed",
    "Step",
    "check_order",
    "needs_grid",
    "plan_for",
    "takes_schedule",
]
