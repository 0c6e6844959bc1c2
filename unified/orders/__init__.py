"""Orders: in which steps the codes of an image are written. To add one, write a function from map sizes to a
`Plan` and give it a line in `ORDERS` (docs/add_a_part.md); the tests for leaks, caches and packing run on it
by themselves."""

from dataclasses import replace
from functools import lru_cache

from unified.orders.diagonal import diagonal
from unified.orders.next_scale import next_scale
from unified.orders.plan import Order, Plan
from unified.orders.raster import raster
from unified.orders.residual import residual
from unified.orders.shapes import Shapes

ORDERS: dict[str, Order] = {
    "next_scale": next_scale,
    "residual": residual,
    "raster": raster,
    "diagonal": diagonal,
}


@lru_cache(maxsize=256)
def plan_for(order: str, shapes: Shapes) -> Plan:
    """The plan of a registered order for these map sizes. Unknown name: ValueError."""
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}: registered are {', '.join(ORDERS)}")
    return replace(ORDERS[order](shapes), order=order)


__all__ = ["ORDERS", "Order", "Plan", "plan_for"]
